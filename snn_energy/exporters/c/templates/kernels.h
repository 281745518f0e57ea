{%- set c = {'u8': 'uint8_t', 'i8': 'int8_t', 'u16': 'uint16_t', 'i16': 'int16_t', 'u32': 'uint32_t', 'i32': 'int32_t', 'i64': 'int64_t'} -%}
/* The arithmetic of the network's processes, on integers.

   Maps lie position by position, the channels of one position side by side: index (y * width + x) *
   channels + c.  Right shifts of negative numbers and overflows do not occur: sums were bounded when this
   file was written, and shifts work on magnitudes. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>
#include <string.h>

/* Inlined, so that the sizes of every call are constants to the compiler. */
#ifndef KERNEL
#ifdef __GNUC__
#define KERNEL static inline __attribute__((always_inline))
#else
#define KERNEL static inline
#endif
#endif

#define CURRENT_LIMIT 131072  /* |current| into a neuron stays below: 24 bits with 6 of fraction */
#define VOLTAGE_LIMIT 8388608 /* |membrane|, |graded message|: 24 bits */
{% if 'conv' in kinds %}
/* A convolution; a dense layer is one over a map of one position. */
typedef struct {
    int32_t channels, height, width, outputs, out_height, out_width;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int32_t groups, group_in, group_out; /* group_in channels make group_out outputs */
} conv_shape;

/* The output row or column that puts its tap on `place`, or -1. */
KERNEL int32_t reached(int32_t place, int32_t pad, int32_t tap, int32_t stride, int32_t size)
{
    const int32_t at = place + pad - tap;
    if (at < 0 || at % stride != 0 || at / stride >= size)
        return -1;
    return at / stride;
}
{% endif %}
{%- for x, w, a in kernels['conv_events'] %}
/* Event-driven: each message adds its weights, [tap][channel][output of its group], to what it reaches. */
KERNEL void conv_events_{{ x }}_{{ w }}_{{ a }}(const {{ c[x] }} *restrict in, const {{ c[w] }} *restrict weight, {{ c[a] }} *restrict out,
    index_type *restrict list, const conv_shape *s)
{
    memset(out, 0, (size_t)(s->out_height * s->out_width * s->outputs) * sizeof *out);
    for (int32_t y = 0; y < s->height; y++) {
        for (int32_t x = 0; x < s->width; x++, in += s->channels) {
            int32_t count = 0;
            for (int32_t ch = 0; ch < s->channels; ch++) {
                list[count] = (index_type)ch;
                count += in[ch] != 0;
            }
            if (count == 0)
                continue;
            for (int32_t i = 0; i < s->kernel_h; i++) {
                const int32_t oy = reached(y, s->pad_h, i * s->dilation_h, s->stride_h, s->out_height);
                for (int32_t j = 0; oy >= 0 && j < s->kernel_w; j++) {
                    const int32_t ox = reached(x, s->pad_w, j * s->dilation_w, s->stride_w, s->out_width);
                    if (ox < 0)
                        continue;
                    {{ c[a] }} *const to = out + (oy * s->out_width + ox) * s->outputs;
                    const {{ c[w] }} *const tap = weight + (i * s->kernel_w + j) * s->channels * s->group_out;
                    for (int32_t n = 0; n < count; n++) {
                        const int32_t ch = list[n];
                        {{ c[a] }} *const sum = to + (s->groups == 1 ? 0 : ch / s->group_in * s->group_out);
                        const {{ c[w] }} *const row = tap + ch * s->group_out;
{%- if x != 'u8' %}
                        const {{ c[a] }} message = in[ch];
{%- endif %}
                        for (int32_t o = 0; o < s->group_out; o++)
                            sum[o] = ({{ c[a] }})(sum[o] + {% if x == 'u8' %}row[o]{% else %}row[o] * message{% endif %});
                    }
                }
            }
        }
    }
}
{% endfor %}
{%- for x, w, a in kernels['conv_dense'] %}
/* Dense: every output sums over all that it sees, [tap][channel][output of its group]. */
KERNEL void conv_dense_{{ x }}_{{ w }}_{{ a }}(const {{ c[x] }} *restrict in, const {{ c[w] }} *restrict weight, {{ c[a] }} *restrict out,
    const conv_shape *s)
{
    memset(out, 0, (size_t)(s->out_height * s->out_width * s->outputs) * sizeof *out);
    for (int32_t oy = 0; oy < s->out_height; oy++) {
        for (int32_t ox = 0; ox < s->out_width; ox++, out += s->outputs) {
            for (int32_t i = 0; i < s->kernel_h; i++) {
                const int32_t y = oy * s->stride_h + i * s->dilation_h - s->pad_h;
                for (int32_t j = 0; y >= 0 && y < s->height && j < s->kernel_w; j++) {
                    const int32_t x = ox * s->stride_w + j * s->dilation_w - s->pad_w;
                    if (x < 0 || x >= s->width)
                        continue;
                    const {{ c[x] }} *const from = in + (y * s->width + x) * s->channels;
                    const {{ c[w] }} *const tap = weight + (i * s->kernel_w + j) * s->channels * s->group_out;
                    for (int32_t ch = 0; ch < s->channels; ch++) {
                        {{ c[a] }} *const sum = out + (s->groups == 1 ? 0 : ch / s->group_in * s->group_out);
                        const {{ c[w] }} *const row = tap + ch * s->group_out;
                        const {{ c[a] }} message = from[ch];
                        for (int32_t o = 0; o < s->group_out; o++)
                            sum[o] = ({{ c[a] }})(sum[o] + row[o] * message);
                    }
                }
            }
        }
    }
}
{% endfor %}
{%- for x, w, a in kernels['conv_channelwise'] %}
/* Dense, each channel on its own: weights [tap][channel]. */
KERNEL void conv_channelwise_{{ x }}_{{ w }}_{{ a }}(const {{ c[x] }} *restrict in, const {{ c[w] }} *restrict weight, {{ c[a] }} *restrict out,
    const conv_shape *s)
{
    memset(out, 0, (size_t)(s->out_height * s->out_width * s->outputs) * sizeof *out);
    for (int32_t oy = 0; oy < s->out_height; oy++) {
        for (int32_t ox = 0; ox < s->out_width; ox++, out += s->outputs) {
            for (int32_t i = 0; i < s->kernel_h; i++) {
                const int32_t y = oy * s->stride_h + i * s->dilation_h - s->pad_h;
                for (int32_t j = 0; y >= 0 && y < s->height && j < s->kernel_w; j++) {
                    const int32_t x = ox * s->stride_w + j * s->dilation_w - s->pad_w;
                    if (x < 0 || x >= s->width)
                        continue;
                    const {{ c[x] }} *const from = in + (y * s->width + x) * s->channels;
                    const {{ c[w] }} *const tap = weight + (i * s->kernel_w + j) * s->channels;
                    for (int32_t ch = 0; ch < s->channels; ch++)
                        out[ch] = ({{ c[a] }})(out[ch] + tap[ch] * ({{ c[a] }})from[ch]);
                }
            }
        }
    }
}
{% endfor %}
{%- for x, w, a, index in kernels['sparse'] %}
/* Listed synapses: those of source i are start[i] up to start[i + 1]. */
KERNEL void sparse_{{ x }}_{{ w }}_{{ a }}_{{ index }}(const {{ c[x] }} *restrict in, const {{ c[index] }} *restrict start, const {{ c[index] }} *restrict target,
    const {{ c[w] }} *restrict weight, {{ c[a] }} *restrict out, int32_t sources, int32_t targets, int32_t skip_silent)
{
    memset(out, 0, (size_t)targets * sizeof *out);
    for (int32_t i = 0; i < sources; i++) {
        const {{ c[a] }} message = in[i];
        if (skip_silent && message == 0)
            continue;
        for (uint32_t n = start[i]; n < start[i + 1]; n++)
            out[target[n]] = ({{ c[a] }})(out[target[n]] + weight[n] * message);
    }
}
{% endfor %}
{%- for x, a in kernels['one_to_one'] %}
/* One synapse per neuron, all of one weight. */
KERNEL void one_to_one_{{ x }}_{{ a }}(const {{ c[x] }} *restrict in, {{ c[a] }} weight, {{ c[a] }} *restrict out, int32_t size)
{
    for (int32_t i = 0; i < size; i++)
        out[i] = ({{ c[a] }})(in[i] * weight);
}
{% endfor %}
{%- for (a,) in kernels['scale'] %}
/* Currents in units of the weights' exponent. */
KERNEL void scale_{{ a }}({{ c[a] }} *restrict out, {{ c[a] }} factor, int32_t size)
{
    for (int32_t i = 0; i < size; i++)
        out[i] = ({{ c[a] }})(out[i] * factor);
}
{% endfor %}
{%- for x, a in kernels['copy'] %}
/* The first of several currents. */
KERNEL void copy_{{ x }}_{{ a }}(const {{ c[x] }} *restrict in, {{ c[a] }} *restrict out, int32_t size)
{
    for (int32_t i = 0; i < size; i++)
        out[i] = ({{ c[a] }})in[i];
}
{% endfor %}
{%- for x, a in kernels['add'] %}
/* A further current. */
KERNEL void add_{{ x }}_{{ a }}(const {{ c[x] }} *restrict in, {{ c[a] }} *restrict out, int32_t size)
{
    for (int32_t i = 0; i < size; i++)
        out[i] = ({{ c[a] }})(out[i] + in[i]);
}
{% endfor %}
{%- for (a,) in kernels['fits'] %}
/* Whether all values lie below +-limit. */
KERNEL int32_t fits_{{ a }}(const {{ c[a] }} *restrict in, {{ c[a] }} limit, int32_t size)
{
    int32_t wrong = 0;
    for (int32_t i = 0; i < size; i++)
        wrong |= (in[i] >= limit) | (in[i] <= -limit);
    return !wrong;
}
{% endfor %}
{%- if 'fire' in kinds %}
/* sgn(x) * floor(|x| * kept / 4096) for |x| < 2^24, in 32 bits. */
KERNEL int32_t decayed(int32_t x, int32_t kept)
{
    const int32_t size = x < 0 ? -x : x;
    const int32_t left = (size >> 12) * kept + (((size & 4095) * kept) >> 12);
    return x < 0 ? -left : left;
}

/* The same for kept = 4096 >> shift. */
KERNEL int32_t halved(int32_t x, int32_t shift)
{
    const int32_t size = (x < 0 ? -x : x) >> shift;
    return x < 0 ? -size : size;
}

KERNEL int32_t clipped(int32_t v)
{
    return v > VOLTAGE_LIMIT - 1 ? VOLTAGE_LIMIT - 1 : v < 1 - VOLTAGE_LIMIT ? 1 - VOLTAGE_LIMIT : v;
}
{% endif %}
{%- for a, decay, biased in kernels['fire'] %}
/* LIF: v <- {{ 'v' if decay == 'none' else 'decayed v' }} + 64 * current{{ ' + bias' if biased != 'no' }}; fires above the threshold and falls to 0. */
KERNEL void fire_{{ a }}_{{ decay }}_{{ biased }}(const {{ c[a] }} *restrict current, int32_t *restrict v, uint8_t *restrict spikes,
    {% if biased != 'no' %}const int16_t *restrict bias, int32_t unit, {% endif %}{% if decay != 'none' %}int32_t decay, {% endif %}int32_t threshold, int32_t positions, int32_t channels)
{
    for (int32_t p = 0; p < positions; p++) {
        for (int32_t ch = 0; ch < channels; ch++) {
            const int32_t left = {{ {'none': 'v[ch]', 'halved': 'halved(v[ch], decay)', 'decayed': 'decayed(v[ch], decay)'}[decay] }};
            const int32_t now = clipped(left + (int32_t)current[ch] * 64{{ {'no': '', 'channel': ' + bias[ch] * unit', 'neuron': ' + bias[ch] * unit'}[biased] }});
            spikes[ch] = now > threshold;
            v[ch] = now > threshold ? 0 : now;
        }
        current += channels;
        v += channels;
        spikes += channels;
{%- if biased == 'neuron' %}
        bias += channels;
{%- endif %}
    }
}
{% endfor %}
{%- for a, decay in kernels['charge'] %}
/* Synaptic current that decays: u <- decayed u + 64 * current.  Returns whether u fits 24 bits. */
KERNEL int32_t charge_{{ a }}_{{ decay }}(const {{ c[a] }} *restrict current, int32_t *restrict u, int32_t decay, int32_t size)
{
    int32_t wrong = 0;
    for (int32_t i = 0; i < size; i++) {
        const int32_t now = {{ decay }}(u[i], decay) + (int32_t)current[i] * 64;
        wrong |= (now >= VOLTAGE_LIMIT) | (now <= -VOLTAGE_LIMIT);
        u[i] = now;
    }
    return !wrong;
}
{% endfor %}
{%- for decay, biased in kernels['fire_charged'] %}
/* LIF of a current that decays, u in membrane units. */
KERNEL void fire_charged_{{ decay }}_{{ biased }}(const int32_t *restrict u, int32_t *restrict v, uint8_t *restrict spikes,
    {% if biased != 'no' %}const int16_t *restrict bias, int32_t unit, {% endif %}{% if decay != 'none' %}int32_t decay, {% endif %}int32_t threshold, int32_t positions, int32_t channels)
{
    for (int32_t p = 0; p < positions; p++) {
        for (int32_t ch = 0; ch < channels; ch++) {
            const int32_t left = {{ {'none': 'v[ch]', 'halved': 'halved(v[ch], decay)', 'decayed': 'decayed(v[ch], decay)'}[decay] }};
            const int32_t now = clipped(left + u[ch]{{ {'no': '', 'channel': ' + bias[ch] * unit', 'neuron': ' + bias[ch] * unit'}[biased] }});
            spikes[ch] = now > threshold;
            v[ch] = now > threshold ? 0 : now;
        }
        u += channels;
        v += channels;
        spikes += channels;
{%- if biased == 'neuron' %}
        bias += channels;
{%- endif %}
    }
}
{% endfor %}
{%- for x, a in kernels['read_out'] %}
/* A readout sums its current over the sample, (positions, channels) into (channels, positions). */
KERNEL void read_out_{{ x }}_{{ a }}(const {{ c[x] }} *restrict in, {{ c[a] }} *restrict sums, int32_t channels, int32_t positions)
{
    for (int32_t p = 0; p < positions; p++)
        for (int32_t ch = 0; ch < channels; ch++)
            sums[ch * positions + p] += {% if x == 'i64' and a == 'i32' %}(int32_t){% endif %}*in++;
}
{% endfor %}
{%- if 'pool' in kinds %}
typedef struct {
    int32_t channels, height, width, out_height, out_width;
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
} pool_shape;
{% endif %}
{%- for (a,) in kernels['max_pool'] %}
/* The largest current under a window; `below` is what a window of nothing but padding gives. */
KERNEL void max_pool_{{ a }}(const {{ c[a] }} *restrict in, {{ c[a] }} *restrict out, {{ c[a] }} below, const pool_shape *s)
{
    for (int32_t oy = 0; oy < s->out_height; oy++) {
        for (int32_t ox = 0; ox < s->out_width; ox++, out += s->channels) {
            for (int32_t ch = 0; ch < s->channels; ch++)
                out[ch] = below;
            for (int32_t i = 0; i < s->kernel_h; i++) {
                const int32_t y = oy * s->stride_h + i - s->pad_h;
                for (int32_t j = 0; y >= 0 && y < s->height && j < s->kernel_w; j++) {
                    const int32_t x = ox * s->stride_w + j - s->pad_w;
                    if (x < 0 || x >= s->width)
                        continue;
                    const {{ c[a] }} *const from = in + (y * s->width + x) * s->channels;
                    for (int32_t ch = 0; ch < s->channels; ch++)
                        out[ch] = from[ch] > out[ch] ? from[ch] : out[ch];
                }
            }
        }
    }
}
{% endfor %}
{%- for (a,) in kernels['channels_last'] %}
/* (channels, positions) as a file has them to (positions, channels). */
KERNEL void channels_last_{{ a }}(const {{ c[a] }} *restrict in, {{ c[a] }} *restrict out, int32_t channels, int32_t positions)
{
    for (int32_t ch = 0; ch < channels; ch++)
        for (int32_t p = 0; p < positions; p++)
            out[p * channels + ch] = *in++;
}
{% endfor %}
{%- for (kv,) in kernels['attention_write'] %}
/* Spikes k and v of all positions into K^T V, (heads, dim, dim): where both fire, one more. */
KERNEL void attention_write_{{ kv }}(const uint8_t *restrict k, const uint8_t *restrict v, {{ c[kv] }} *restrict sums, int32_t positions, int32_t heads, int32_t dim)
{
    for (int32_t p = 0; p < positions; p++) {
        {{ c[kv] }} *row = sums;
        for (int32_t h = 0; h < heads; h++) {
            for (int32_t i = 0; i < dim; i++, row += dim) {
                if (k[i] == 0)
                    continue;
                for (int32_t j = 0; j < dim; j++)
                    row[j] = ({{ c[kv] }})(row[j] + v[j]);
            }
            k += dim;
            v += dim;
        }
    }
}
{% endfor %}
{%- for kv, a in kernels['attention_read'] %}
/* gain * q (K^T V) of all positions, at most CURRENT_LIMIT - 1. */
KERNEL void attention_read_{{ kv }}_{{ a }}(const uint8_t *restrict q, const {{ c[kv] }} *restrict sums, {{ c[a] }} *restrict out, int32_t gain, int32_t positions, int32_t heads,
    int32_t dim)
{
    for (int32_t p = 0; p < positions; p++) {
        const {{ c[kv] }} *row = sums;
        for (int32_t h = 0; h < heads; h++) {
            memset(out, 0, (size_t)dim * sizeof *out);
            for (int32_t i = 0; i < dim; i++, row += dim) {
                if (q[i] == 0)
                    continue;
                for (int32_t j = 0; j < dim; j++)
                    out[j] = ({{ c[a] }})(out[j] + row[j]);
            }
            for (int32_t j = 0; j < dim; j++)
                out[j] = ({{ c[a] }})(out[j] > (CURRENT_LIMIT - 1) / gain ? CURRENT_LIMIT - 1 : out[j] * gain);
            q += dim;
            out += dim;
        }
    }
}
{% endfor %}
#endif
