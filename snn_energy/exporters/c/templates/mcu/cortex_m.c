/* Start of an Arm Cortex-M: vector table, memory, semihosting, and the board's first timer (MPS2: 25 MHz). */
#include <string.h>

#include "board.h"

extern char data_load[], data_start[], data_end[], bss_start[], stack_top[];
int main(void);

static void halt(void)
{
    for (;;) {
    }
}

void reset(void)
{
    memcpy(data_start, data_load, (size_t)(data_end - data_start));
    memset(bss_start, 0, (size_t)(memory_end - bss_start));
    main();
    halt();
}

static void fault(void)
{
    static const uint32_t stopped[2] = {0x20026, 4};
    semihost(0x20, stopped);
    halt();
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))stack_top, reset, fault, fault, fault, fault, fault,
};

uintptr_t semihost(uintptr_t operation, const void *argument)
{
    register uintptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

#define TIMER ((volatile uint32_t *)0x40000000) /* control, value, reload; counts down */

void board_start(void)
{
    TIMER[0] = 0;
    TIMER[1] = 0xffffffffu;
    TIMER[2] = 0xffffffffu;
    TIMER[0] = 1;
}

uint32_t board_count(void)
{
    return 0xffffffffu - TIMER[1];
}
