# The network on microcontrollers under QEMU: `make cortex-m4 && make run-cortex-m4`; cortex-m7, riscv32.
MCU_FLAGS = -std=c11 -O2 -Wall -Wextra -ffunction-sections -fdata-sections -nostartfiles -Wl,--gc-sections
MCU_SOURCES = network.c weights.c mcu/main.c
ARM = arm-none-eabi-gcc $(MCU_FLAGS) -mthumb -nostdlib -T mcu/cortex-m.ld
RISCV = riscv64-unknown-elf-gcc --specs=picolibc.specs $(MCU_FLAGS) -misa-spec=2.2 -march=rv32imac -mabi=ilp32 -T mcu/riscv32.ld
QEMU = -nographic -monitor none -serial none -icount shift=0 -chardev stdio,id=out -semihosting-config enable=on,target=native,chardev=out

cortex-m4.elf: $(MCU_SOURCES) mcu/cortex_m.c $(HEADERS)
	$(ARM) -mcpu=cortex-m4 $(MCU_SOURCES) mcu/cortex_m.c -lc -lgcc -o $@

cortex-m7.elf: $(MCU_SOURCES) mcu/cortex_m.c $(HEADERS)
	$(ARM) -mcpu=cortex-m7 $(MCU_SOURCES) mcu/cortex_m.c -lc -lgcc -o $@

riscv32.elf: $(MCU_SOURCES) mcu/riscv32.c $(HEADERS)
	$(RISCV) $(MCU_SOURCES) mcu/riscv32.c -o $@

run-cortex-m4: cortex-m4.elf
	qemu-system-arm -M mps2-an386 $(QEMU) -kernel $<

run-cortex-m7: cortex-m7.elf
	qemu-system-arm -M mps2-an500 $(QEMU) -kernel $<

run-riscv32: riscv32.elf
	qemu-system-riscv32 -M virt -bios none $(QEMU) -kernel $<

.PHONY: run-cortex-m4 run-cortex-m7 run-riscv32
