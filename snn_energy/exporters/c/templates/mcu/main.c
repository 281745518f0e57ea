/* The network on a board under QEMU: the samples of samples.bin, through semihosting.

   Prints, for every sample: class, count of the board's counter, bytes of stack that network_infer took.
   Built with -DSPIKES (and -DNETWORK_TRACED) also every spike, in the form of ../main.c. */
#include <string.h>

#include "../network.h"
#include "board.h"

#ifndef FRAMES
#define FRAMES {{ frames }}
#endif
#define PAINT 32768u /* bytes below the stack pointer that are painted */
#define OWN 128u     /* what lies between a frame address and what is painted, counted as used */
#define COLOUR 0xa5

static network_input sample[FRAMES * NETWORK_INPUTS];
static char text[256];
static uint32_t used;

static void flush(void)
{
    text[used] = 0;
    semihost(0x04, text);
    used = 0;
}

static void put(const char *s)
{
    for (; *s != 0; s++) {
        if (used == sizeof text - 1)
            flush();
        text[used++] = *s;
    }
}

static void number(int64_t value)
{
    char digits[24];
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    uint32_t at = sizeof digits - 1;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + (int)(left % 10));
        left /= 10;
    } while (left != 0);
    if (value < 0)
        digits[--at] = '-';
    put(digits + at);
}

__attribute__((noreturn)) static void leave(uint32_t code)
{
    const uint32_t stopped[2] = {0x20026, code};
    flush();
    semihost(0x20, stopped);
    for (;;) {
    }
}

#ifdef SPIKES
static int32_t which;

static const struct {
    const char *name;
    int32_t spiking, channels, positions;
} nodes[] = {
{%- for name, spiking, channels, positions in traced %}
    { {{- name }}, {{ spiking }}, {{ channels }}, {{ positions -}} },
{%- endfor %}
};

void network_trace(int32_t node, int32_t step, const void *values)
{
    const uint8_t *const spikes = values;
    const int32_t channels = nodes[node].channels, positions = nodes[node].positions;
    if (!nodes[node].spiking)
        return;
    number(which);
    put(" ");
    number(step);
    put(" ");
    put(nodes[node].name);
    put(" :");
    for (int32_t ch = 0; ch < channels; ch++) {
        for (int32_t p = 0; p < positions; p++) {
            if (spikes[p * channels + ch]) {
                put(" ");
                number(ch * positions + p);
            }
        }
    }
    put("\n");
}
#endif

/* Bytes of the stack below `top` that were written since they were painted. */
static uint32_t touched(const volatile uint8_t *low, const volatile uint8_t *top)
{
    while (low < top && *low == COLOUR)
        low++;
    return (uint32_t)(top - low);
}

__attribute__((noinline)) static int32_t measured(uint32_t *count, uint32_t *stack)
{
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0), lowest = (uintptr_t)memory_end;
    const uintptr_t top = here - OWN, low = top - lowest > PAINT ? top - PAINT : lowest;
    memset((void *)low, COLOUR, top - low);
    const uint32_t before = board_count();
    const int32_t done = network_infer(sample, FRAMES);
    *count = board_count() - before;
    *stack = touched((const volatile uint8_t *)low, (const volatile uint8_t *)top) + OWN;
    return done;
}

int main(void)
{
    static const char name[] = "samples.bin";
    const uintptr_t how[3] = {(uintptr_t)name, 1, sizeof name - 1};
    const uintptr_t file = semihost(0x01, how);
    if (file == (uintptr_t)-1) {
        put("cannot read samples.bin\n");
        leave(2);
    }
    board_start();
    for (;;) {
        const uintptr_t block[3] = {file, (uintptr_t)sample, sizeof sample};
        uint32_t count, stack;
        if (semihost(0x06, block) != 0)
            break;
        if (measured(&count, &stack) < 0) {
            put("node ");
            number(network_wrong);
            put(": a value does not fit its register\n");
            leave(3);
        }
{%- if readouts == 1 %}
        number(network_class());
        put("\n");
{%- endif %}
#ifdef SPIKES
{%- if readouts %}
        put("sums");
        for (int32_t i = 0; i < NETWORK_OUTPUTS; i++) {
            put(" ");
            number(network_sums[i]);
        }
        put("\n");
{%- endif %}
        which++;
#else
        put("measured ");
        number(count);
        put(" ");
        number(stack);
        put("\n");
#endif
    }
    leave(0);
}
