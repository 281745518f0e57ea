"""The networks: STAtten, STAA-SNN, the decoupled model, and the registry that names them."""
