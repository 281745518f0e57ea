"""`--target c`: a network as C source, proven on the host and on emulated microcontrollers."""
