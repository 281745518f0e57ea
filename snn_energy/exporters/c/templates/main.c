/* Classes of samples from a file or standard input.

       network [FILE]

   A sample is {{ 'one frame, held for every step' if frames == 1 else 'a frame for every step' }}: NETWORK_INPUTS messages of type network_input as they lie in memory.
   Built with -DSPIKES (and -DNETWORK_TRACED), every spike is printed, too: sample, step, node, and the indices
   of the neurons that fired, in (channel, row, column) order. */
#include <stdio.h>

#include "network.h"

#ifndef FRAMES
#define FRAMES {{ frames }}
#endif

static network_input sample[FRAMES * NETWORK_INPUTS];

static const char *const names[] = {
{%- for name, spiking, channels, positions in traced %}
    {{ name }},
{%- endfor %}
};

#ifdef SPIKES
static long number;

static const struct {
    int32_t spiking, channels, positions;
} nodes[] = {
{%- for name, spiking, channels, positions in traced %}
    { {{- spiking }}, {{ channels }}, {{ positions -}} },
{%- endfor %}
};

void network_trace(int32_t node, int32_t step, const void *values)
{
    const uint8_t *const spikes = values;
    const int32_t channels = nodes[node].channels, positions = nodes[node].positions;
    if (!nodes[node].spiking)
        return;
    printf("%ld %d %s :", number, (int)step, names[node]);
    for (int32_t ch = 0; ch < channels; ch++)
        for (int32_t p = 0; p < positions; p++)
            if (spikes[p * channels + ch])
                printf(" %d", (int)(ch * positions + p));
    printf("\n");
}
#endif

int main(int argc, char **argv)
{
    FILE *const file = argc > 1 ? fopen(argv[1], "rb") : stdin;
    if (file == NULL) {
        fprintf(stderr, "cannot read %s\n", argv[1]);
        return 2;
    }
    size_t got;
    while ((got = fread(sample, sizeof sample[0], FRAMES * NETWORK_INPUTS, file)) == FRAMES * NETWORK_INPUTS) {
        if (network_infer(sample, FRAMES) < 0) {
            fprintf(stderr, "%s: a value does not fit its register\n", names[network_wrong]);
            return 3;
        }
{%- if readouts == 1 %}
        printf("%d\n", (int)network_class());
{%- endif %}
#ifdef SPIKES
{%- if readouts %}
        printf("sums");
        for (int32_t i = 0; i < NETWORK_OUTPUTS; i++)
            printf(" %lld", (long long)network_sums[i]);
        printf("\n");
{%- endif %}
        number++;
#endif
    }
    if (got != 0) {
        fprintf(stderr, "the last sample has %d of %d messages\n", (int)got, FRAMES * NETWORK_INPUTS);
        return 2;
    }
    return 0;
}
