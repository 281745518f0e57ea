/* What the program needs of a board under a debugger or QEMU: semihosting, a counter, where its memory ends. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* One semihosting call (Arm's numbers, RISC-V uses them too). */
uintptr_t semihost(uintptr_t operation, const void *argument);

/* Something that grows by one per BOARD_INSTRUCTIONS instructions under `qemu -icount shift=0`. */
void board_start(void);
uint32_t board_count(void);

/* The end of static memory: the stack grows down towards it. */
extern char memory_end[];

#endif
