/* Training kernels for a CPU.  Plain C without libraries: compiled when first needed (build.py), called by ctypes.
 *
 * Arrays of a sequence are (T, n), n the numbers of one step in whatever order they lie in memory; a call works
 * on [begin, end) of each step, so that threads can share the work.  `restrict`: no two of them overlap.
 * Floating-point contraction is off: each operation rounds as the same one of PyTorch does.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#define BLOCK 1024 /* numbers of a step that stay in the nearest cache from one step to the next */

static inline float surrogate(float u, float alpha)
{
    /* alpha · σ (1 - σ), σ = sigmoid(alpha · u), by e = exp(-|alpha · u|): alpha · e / (1 + e)².
     * exp: e^z = 2^k · e^r with k = round(z / ln 2), so |r| ≤ ln 2 / 2, and e^r by its Taylor series to r^7
     * (next term below 6e-9); ln 2 is taken off in two parts, the first of few bits, so that k · it is exact. */
    float z = -fabsf(alpha * u);
    z = z < -80.0f ? -80.0f : z;
    float k = rintf(z * 1.44269504f);
    float r = (z - k * 0.693359375f) + k * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    union {
        int bits;
        float value;
    } scale;
    scale.bits = ((int)k + 127) << 23;
    float e = p * scale.value;
    return alpha * e / ((1.0f + e) * (1.0f + e));
}

/* Currents -> charged membranes H (T, n), spikes (T, n), last membrane (n).  `stride`: from one step of the
 * currents to the next; 0 if all steps see the same. */
void lif_forward(long steps, long n, long stride, long begin, long end, float tau, float threshold,
                 const float *restrict currents, float *restrict charged, float *restrict spikes,
                 float *restrict last)
{
    for (long a = begin; a < end; a += BLOCK) {
        long count = end - a < BLOCK ? end - a : BLOCK;
        float v[BLOCK];
        memset(v, 0, sizeof v);
        for (long t = 0; t < steps; t++) {
            const float *x = currents + t * stride + a;
            float *h = charged + t * n + a, *s = spikes + t * n + a;
            for (long i = 0; i < count; i++) {
                float c = (x[i] - v[i]) / tau + v[i];
                h[i] = c;
                s[i] = c >= threshold ? 1.0f : 0.0f;
                v[i] = c >= threshold ? 0.0f : c;
            }
        }
        memcpy(last + a, v, count * sizeof(float));
    }
}

/* Charged membranes, gradients of the spikes (T, n) -> gradients of the currents (T, n). */
void lif_backward(long steps, long n, long begin, long end, float tau, float threshold, float alpha,
                  const float *restrict charged, const float *restrict grad_spikes, float *restrict grad)
{
    float gain = 1.0f / tau, keep = 1.0f - gain;
    for (long a = begin; a < end; a += BLOCK) {
        long count = end - a < BLOCK ? end - a : BLOCK;
        float carry[BLOCK];
        memset(carry, 0, sizeof carry);
        for (long t = steps - 1; t >= 0; t--) {
            const float *h = charged + t * n + a, *g = grad_spikes + t * n + a;
            float *d = grad + t * n + a;
            for (long i = 0; i < count; i++) {
                float u = h[i] - threshold;
                float dh = surrogate(u, alpha) * g[i] + (h[i] >= threshold ? 0.0f : carry[i]);
                d[i] = dh * gain;
                carry[i] = dh * keep;
            }
        }
    }
}

/* Batch norm, channels last: x, dy (rows, channels).  Adds Σ dy and Σ dy · (x - mean) of rows [begin, end) to
 * `sums` (2, channels), in double precision behind every 64 rows. */
void norm_sums(long channels, long begin, long end, const float *restrict x, const float *restrict dy,
               const float *restrict mean, double *restrict sums)
{
    for (long c0 = 0; c0 < channels; c0 += BLOCK) {
        long count = channels - c0 < BLOCK ? channels - c0 : BLOCK;
        for (long r0 = begin; r0 < end; r0 += 64) {
            float first[BLOCK], second[BLOCK];
            memset(first, 0, sizeof first);
            memset(second, 0, sizeof second);
            for (long r = r0; r < end && r < r0 + 64; r++) {
                const float *xs = x + r * channels + c0, *gs = dy + r * channels + c0;
                for (long c = 0; c < count; c++) {
                    first[c] += gs[c];
                    second[c] += gs[c] * (xs[c] - mean[c0 + c]);
                }
            }
            for (long c = 0; c < count; c++) {
                sums[c0 + c] += first[c];
                sums[channels + c0 + c] += second[c];
            }
        }
    }
}

/* dx = factor · dy + slope · (x - mean) + offset, all three per channel. */
void norm_grad(long channels, long begin, long end, const float *restrict x, const float *restrict dy,
               const float *restrict mean, const float *restrict factor, const float *restrict slope,
               const float *restrict offset, float *restrict dx)
{
    for (long r = begin; r < end; r++) {
        const float *xs = x + r * channels, *gs = dy + r * channels;
        float *ds = dx + r * channels;
        for (long c = 0; c < channels; c++)
            ds[c] = factor[c] * gs[c] + slope[c] * (xs[c] - mean[c]) + offset[c];
    }
}
