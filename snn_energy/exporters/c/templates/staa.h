/* The STAA neuron in whole numbers: a LIF whose aggregation is attended to.

   Membranes are in 1/64 of a current's unit; gates, gain and keep have 16 fraction bits, logits and the norm's
   weight 12.  Products are shifted right with halves rounded up.  No sum here leaves 62 bits. */
#ifndef STAA_H
#define STAA_H

#include "kernels.h"

#define MEMBRANE_MAX 8388607
#define ONE_BITS 16
#define LOGIT_BITS 12
#define NORM_BITS 12
#define BLOCK_BITS 24

/* X + value(ReLU(norm(query(X * sigmoid(key(X))))))  */
typedef struct {
    int32_t hidden, key_shift, value_shift;
    int64_t key_bias, epsilon;
    const int32_t *key, *query, *value, *norm_weight; /* (channels), (hidden, channels), (channels, hidden), (hidden) */
    const int64_t *query_bias, *norm_bias, *value_bias;
} context_gate;

/* U * sigmoid(conv2(ReLU(conv1(sum of U over positions)))), kernels of three channels */
typedef struct {
    int32_t conv1[3], conv2[3], shift1, shift2;
} step_gate;

typedef struct {
    int32_t channels, positions;
    int64_t threshold, gain, keep;
    const int32_t *bias; /* (channels), in current units */
    const int32_t *at_input, *at_state, *at_aggregate, *at_output; /* (steps, channels) or NULL */
    const context_gate *context_in, *context_state; /* or NULL */
    const step_gate *attention; /* or NULL */
} staa_neuron;

/* round(65536 * sigmoid(i / 16)), and 1 behind it */
static const int32_t sigmoid_table[{{ sigmoid | length }}] = {
{{ sigmoid_text }}
};

/* floor(x / 2^n) */
KERNEL int64_t shifted(int64_t x, int32_t n)
{
    return x >= 0 ? x >> n : ~(~x >> n);
}

/* x / 2^n to the nearest whole number, halves up */
KERNEL int64_t rounded(int64_t x, int32_t n)
{
    return shifted(x + (((int64_t)1 << n) >> 1), n);
}

KERNEL int64_t saturated(int64_t x)
{
    return x > MEMBRANE_MAX ? MEMBRANE_MAX : x < -MEMBRANE_MAX ? -MEMBRANE_MAX : x;
}

/* floor(x / y) for y > 0 */
KERNEL int64_t floor_divided(int64_t x, int64_t y)
{
    return x >= 0 ? x / y : -((-x + y - 1) / y);
}

/* floor(sqrt(x)) */
KERNEL int64_t square_root(int64_t x)
{
    int64_t root = 0;
    for (int64_t bit = (int64_t)1 << 62; bit != 0; bit >>= 2) {
        const int64_t with = root + bit;
        root >>= 1;
        if (x >= with) {
            x -= with;
            root += bit;
        }
    }
    return root;
}

KERNEL int64_t sigmoid(int64_t logit)
{
    const int64_t end = (int64_t)12 << LOGIT_BITS;
    const int64_t size = logit < 0 ? -logit : logit;
    const int64_t within = size > end ? end : size;
    const int32_t index = (int32_t)(within >> 8);
    const int64_t low = sigmoid_table[index];
    const int64_t upper = low + rounded((sigmoid_table[index + 1] - low) * (within & 255), 8);
    return logit < 0 ? ((int64_t)1 << ONE_BITS) - upper : upper;
}

/* ReLU(layer norm) with a block exponent: the largest input has 24 bits. */
KERNEL void normalise(int64_t *hidden, const context_gate *gate)
{
    const int32_t size = gate->hidden;
    int64_t largest = 0, sum = 0, squares = 0;
    int32_t exponent = 0;
    for (int32_t r = 0; r < size; r++) {
        const int64_t magnitude = hidden[r] < 0 ? -hidden[r] : hidden[r];
        largest = magnitude > largest ? magnitude : largest;
    }
    while (largest >> (BLOCK_BITS + exponent) != 0)
        exponent++;
    for (int32_t r = 0; r < size; r++) {
        hidden[r] = shifted(hidden[r], exponent);
        sum += hidden[r];
    }
    const int64_t mean = floor_divided(sum, size);
    for (int32_t r = 0; r < size; r++) {
        hidden[r] -= mean;
        squares += hidden[r] * hidden[r];
    }
    const int64_t epsilon = shifted(gate->epsilon, exponent);
    int64_t deviation = square_root(squares / size + epsilon * epsilon);
    deviation = deviation < 1 ? 1 : deviation;
    for (int32_t r = 0; r < size; r++) {
        const int64_t quotient = floor_divided(hidden[r] * ((int64_t)1 << ONE_BITS), deviation);
        const int64_t scaled = rounded(quotient * gate->norm_weight[r] + gate->norm_bias[r], NORM_BITS);
        hidden[r] = scaled < 0 ? 0 : scaled;
    }
}

/* The context gate on a map; `pooled` (channels) and `hidden` are its own. */
KERNEL void attend_context(int32_t *x, const context_gate *gate, int32_t channels, int32_t positions, int64_t *pooled, int64_t *hidden)
{
    memset(pooled, 0, (size_t)channels * sizeof *pooled);
    for (int32_t p = 0; p < positions; p++) {
        const int32_t *const at = x + p * channels;
        int64_t logit = gate->key_bias;
        for (int32_t ch = 0; ch < channels; ch++)
            logit += (int64_t)at[ch] * gate->key[ch];
        const int64_t weight = sigmoid(rounded(logit, gate->key_shift));
        for (int32_t ch = 0; ch < channels; ch++)
            pooled[ch] += at[ch] * weight;
    }
    for (int32_t ch = 0; ch < channels; ch++)
        pooled[ch] = rounded(pooled[ch], ONE_BITS);
    for (int32_t r = 0; r < gate->hidden; r++) {
        hidden[r] = gate->query_bias[r];
        for (int32_t ch = 0; ch < channels; ch++)
            hidden[r] += pooled[ch] * gate->query[r * channels + ch];
    }
    normalise(hidden, gate);
    for (int32_t ch = 0; ch < channels; ch++) {
        int64_t value = gate->value_bias[ch];
        for (int32_t r = 0; r < gate->hidden; r++)
            value += hidden[r] * gate->value[ch * gate->hidden + r];
        pooled[ch] = rounded(value, gate->value_shift);
    }
    for (int32_t p = 0; p < positions; p++)
        for (int32_t ch = 0; ch < channels; ch++)
            x[p * channels + ch] = (int32_t)saturated(x[p * channels + ch] + pooled[ch]);
}

/* Cross-correlation of one channel with its neighbours, zeros outside. */
KERNEL int64_t neighbours(const int64_t *x, const int32_t *weight, int32_t ch, int32_t channels)
{
    int64_t sum = x[ch] * weight[1];
    if (ch > 0)
        sum += x[ch - 1] * weight[0];
    if (ch + 1 < channels)
        sum += x[ch + 1] * weight[2];
    return sum;
}

/* The gate of the step on a map; `pooled` and `hidden` (channels) are its own. */
KERNEL void attend_step(int32_t *u, const step_gate *gate, int32_t channels, int32_t positions, int64_t *pooled, int64_t *hidden)
{
    memset(pooled, 0, (size_t)channels * sizeof *pooled);
    for (int32_t p = 0; p < positions; p++)
        for (int32_t ch = 0; ch < channels; ch++)
            pooled[ch] += u[p * channels + ch];
    for (int32_t ch = 0; ch < channels; ch++) {
        const int64_t first = rounded(neighbours(pooled, gate->conv1, ch, channels), gate->shift1);
        hidden[ch] = first < 0 ? 0 : first;
    }
    for (int32_t ch = 0; ch < channels; ch++)
        pooled[ch] = sigmoid(rounded(neighbours(hidden, gate->conv2, ch, channels), gate->shift2));
    for (int32_t p = 0; p < positions; p++)
        for (int32_t ch = 0; ch < channels; ch++)
            u[p * channels + ch] = (int32_t)rounded(u[p * channels + ch] * pooled[ch], ONE_BITS);
}

/* One position of the time step's code, where it is added. */
KERNEL void add_position(int32_t *x, const int32_t *code, int32_t step, int32_t channels, int32_t positions)
{
    if (code == NULL)
        return;
    for (int32_t p = 0; p < positions; p++)
        for (int32_t ch = 0; ch < channels; ch++)
            x[p * channels + ch] = (int32_t)saturated((int64_t)x[p * channels + ch] + code[step * channels + ch]);
}

/* Step `step` of a sample.  `h` holds the membrane; `x` and `state` are maps, `pooled` and `hidden` vectors of
   its own. */
KERNEL void fire_staa(const staa_neuron *n, int32_t step, const int32_t *current, int32_t *h, uint8_t *spikes,
    int32_t *x, int32_t *state, int64_t *pooled, int64_t *hidden)
{
    const int32_t channels = n->channels, positions = n->positions, size = channels * positions;
    for (int32_t i = 0; i < size; i++) {
        x[i] = (int32_t)saturated(((int64_t)current[i] + n->bias[i % channels]) * 64);
        state[i] = h[i];
    }
    add_position(x, n->at_input, step, channels, positions);
    if (n->context_in != NULL)
        attend_context(x, n->context_in, channels, positions, pooled, hidden);
    add_position(state, n->at_state, step, channels, positions);
    if (n->context_state != NULL)
        attend_context(state, n->context_state, channels, positions, pooled, hidden);
    for (int32_t i = 0; i < size; i++)
        x[i] = (int32_t)saturated(rounded(x[i] * n->gain, ONE_BITS) + rounded(state[i] * n->keep, ONE_BITS));
    add_position(x, n->at_aggregate, step, channels, positions);
    if (n->attention != NULL)
        attend_step(x, n->attention, channels, positions, pooled, hidden);
    add_position(x, n->at_output, step, channels, positions);
    for (int32_t i = 0; i < size; i++) {
        spikes[i] = x[i] >= n->threshold;
        h[i] = spikes[i] ? 0 : x[i];
    }
}

#endif
