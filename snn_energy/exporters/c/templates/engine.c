/* The network as the simulator's engine: many samples in one call, values recorded, messages counted. */
#include <string.h>

#include "network.h"

static const struct {
    int32_t channels, positions, type; /* type: bytes of an element, negative where it is signed */
    int64_t first;                     /* of its counts */
} nodes[] = {
{%- for channels, positions, type, first in engine_nodes %}
    { {{- channels }}, {{ positions }}, {{ type }}, {{ first -}} },
{%- endfor %}
};

typedef struct {
    void *const *records;    /* of each node: where its values go, (samples, steps, channels, positions), or NULL */
    const int32_t *binary;   /* of each node: recorded as bytes, else as int32 */
    const int32_t *counted;  /* of each node: 1 where messages are counted, 2 where values are summed */
    int64_t *counts;
} engine_wishes;

static engine_wishes wishes;
static int64_t sample;

static int64_t value_of(const void *values, int32_t type, int32_t i)
{
    switch (type) {
    case 1:
        return ((const uint8_t *)values)[i];
    case -1:
        return ((const int8_t *)values)[i];
    case -2:
        return ((const int16_t *)values)[i];
    case -4:
        return ((const int32_t *)values)[i];
    default:
        return ((const int64_t *)values)[i];
    }
}

static void count(int32_t node, const void *values)
{
    const int32_t size = nodes[node].channels * nodes[node].positions;
    int64_t *const to = wishes.counts + nodes[node].first;
    if (wishes.counted[node] == 2) {
        for (int32_t i = 0; i < size; i++)
            to[0] += value_of(values, nodes[node].type, i);
    } else if (nodes[node].type == 1) {
        const uint8_t *const spikes = values;
        for (int32_t i = 0; i < size; i++)
            to[i] += spikes[i];
    } else {
        for (int32_t i = 0; i < size; i++)
            to[i] += value_of(values, nodes[node].type, i) != 0;
    }
}

void network_trace(int32_t node, int32_t step, const void *values)
{
    const int32_t channels = nodes[node].channels, positions = nodes[node].positions;
    if (wishes.counted[node] != 0)
        count(node, values);
    if (wishes.records[node] == NULL)
        return;
    const int64_t first = (sample * NETWORK_STEPS + step) * channels * positions;
    if (wishes.binary[node] != 0) {
        int8_t *const to = (int8_t *)wishes.records[node] + first;
        const uint8_t *const spikes = values;
        for (int32_t ch = 0; ch < channels; ch++)
            for (int32_t p = 0; p < positions; p++)
                to[ch * positions + p] = (int8_t)spikes[p * channels + ch];
    } else {
        int32_t *const to = (int32_t *)wishes.records[node] + first;
        for (int32_t ch = 0; ch < channels; ch++)
            for (int32_t p = 0; p < positions; p++)
                to[ch * positions + p] = (int32_t)value_of(values, nodes[node].type, p * channels + ch);
    }
}

/* Samples one after the other; `sums` (samples, NETWORK_OUTPUTS) or NULL.  Returns -1, or the sample in which
   a value did not fit. */
int64_t engine_run(const network_input *x, int32_t frames, int64_t samples, const engine_wishes *wanted, int64_t *sums);

int64_t engine_run(const network_input *x, int32_t frames, int64_t samples, const engine_wishes *wanted, int64_t *sums)
{
    wishes = *wanted;
    for (sample = 0; sample < samples; sample++) {
        if (network_infer(x + sample * frames * NETWORK_INPUTS, frames) < 0)
            return sample;
{%- if readouts %}
        for (int32_t i = 0; sums != NULL && i < NETWORK_OUTPUTS; i++)
            sums[sample * NETWORK_OUTPUTS + i] = network_sums[i];
{%- endif %}
    }
    (void)sums;
    return -1;
}
