/* Start of a 32-bit RISC-V: stack, memory, semihosting, and the counter of retired instructions. */
#include <string.h>

#include "board.h"

extern char bss_start[];
int main(void);

__attribute__((naked, section(".start"), used)) void start(void)
{
    __asm__ volatile(".option push\n"
                     ".option norelax\n"
                     "la gp, __global_pointer$\n"
                     ".option pop\n"
                     "la sp, stack_top\n"
                     "la t0, trap\n"
                     "csrw mtvec, t0\n"
                     "j run");
}

__attribute__((used)) static void run(void)
{
    memset(bss_start, 0, (size_t)(memory_end - bss_start));
    main();
    for (;;) {
    }
}

__attribute__((aligned(4), used)) static void trap(void)
{
    static const uint32_t stopped[2] = {0x20026, 4};
    semihost(0x20, stopped);
    for (;;) {
    }
}

__attribute__((noinline)) uintptr_t semihost(uintptr_t operation, const void *argument)
{
    register uintptr_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = argument;
    __asm__ volatile(".balign 16\n"
                     ".option push\n"
                     ".option norvc\n"
                     "slli zero, zero, 0x1f\n"
                     "ebreak\n"
                     "srai zero, zero, 7\n"
                     ".option pop"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}

void board_start(void)
{
}

uint32_t board_count(void)
{
    uint32_t count;
    __asm__ volatile("rdinstret %0" : "=r"(count));
    return count;
}
