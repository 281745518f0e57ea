/* {{ title }}

   Every node of the network in the order in which it is computed; names are those of the network's modules.
   Shapes are channels x rows x columns; in memory the channels of one position lie side by side. */
#include "network.h"

#include "weights.h"

typedef {{ index_type }} index_type; /* numbers channels */

{% if staa %}#include "staa.h"{% else %}#include "kernels.h"{% endif %}

int32_t network_wrong = -1;
{%- if readouts %}
{{ sum_type }} network_sums[NETWORK_OUTPUTS];
{%- endif %}

/* State: what lasts from one step to the next. */
{%- for line in state %}
{{ line }}
{%- endfor %}

/* Values that last no longer than a step share memory. */
{%- for line in scratch %}
{{ line }}
{%- endfor %}
{% for line in shapes %}
{{ line }}
{%- endfor %}

{%- if checked %}
/* A value did not fit the register of `node`. */
static int32_t wrong(int32_t node)
{
    network_wrong = node;
    return -1;
}
{% endif %}{% for group in groups %}
/* {{ group.comment }} */
static int32_t {{ group.function }}(int32_t step{{ ', int32_t turn' if lag }}{{ ', const network_input *x' if group.first }})
{
{%- for line in group.lines %}
{{ '    ' + line if line else '' }}
{%- endfor %}
    return 0;
}
{% endfor %}
{%- if lag %}
static int32_t calls;                   /* since the reset, at most NETWORK_LAG + 1 */
static int32_t waiting[NETWORK_LAG + 1]; /* steps that were fed and that the nodes of this lag have not done */
static int32_t at[NETWORK_LAG + 1];      /* their next step of a sample */
static int32_t turns[NETWORK_LAG + 1];   /* their steps since the reset, modulo {{ ring }}: places in delay lines */
{%- else %}
static int32_t at; /* the next step of a sample */
{%- endif %}

void network_reset(void)
{
{%- if lag %}
    calls = 0;
    memset(waiting, 0, sizeof waiting);
    memset(at, 0, sizeof at);
    memset(turns, 0, sizeof turns);
{%- else %}
    at = 0;
{%- endif %}
    network_wrong = -1;
}

int32_t network_step(const network_input *x)
{
{%- if not lag %}
    if (x == NULL)
        return 0;
    const int32_t step = at;
    at = at + 1 < NETWORK_STEPS ? at + 1 : 0;
    if ({{ groups[0].function }}(step, x) != 0)
        return -1;
    return step == NETWORK_STEPS - 1;
{%- else %}
    int32_t complete = 0;
    calls += calls <= NETWORK_LAG;
    for (int32_t lag = 0; lag <= NETWORK_LAG; lag++)
        waiting[lag] += x != NULL;
{%- for group in groups %}
    if (calls > {{ group.lag }} && waiting[{{ group.lag }}] > 0) {
        if ({{ group.function }}(at[{{ group.lag }}], turns[{{ group.lag }}]{{ ', x' if group.first }}) != 0)
            return -1;
        waiting[{{ group.lag }}]--;
{%- if group.last %}
        complete = at[{{ group.lag }}] == NETWORK_STEPS - 1;
{%- endif %}
        at[{{ group.lag }}] = at[{{ group.lag }}] + 1 < NETWORK_STEPS ? at[{{ group.lag }}] + 1 : 0;
        turns[{{ group.lag }}] = (turns[{{ group.lag }}] + 1) % {{ ring }};
    }
{%- endfor %}
    return complete;
{%- endif %}
}

int32_t network_infer(const network_input *x, int32_t frames)
{
    int32_t done = 0;
    network_reset();
    for (int32_t step = 0; step < NETWORK_STEPS && done >= 0; step++)
        done = network_step(frames == 1 ? x : x + step * NETWORK_INPUTS);
    for (int32_t step = 0; step < NETWORK_LAG && done >= 0; step++)
        done = network_step(NULL);
    return done;
}
{% if readouts == 1 %}
/* A logit, in 2^-{{ logit.shift }} of a unit of current, or what has its order. */
static int64_t logit(int32_t i)
{
    return {% if logit.sign %}{{ '-' if logit.sign < 0 }}(int64_t)network_sums[i] * ((int64_t)1 << {{ logit.shift }}) + {% endif %}{{ logit.bias }}[i];
}

int32_t network_class(void)
{
    int32_t best = 0;
    for (int32_t i = 1; i < NETWORK_OUTPUTS; i++)
        if (logit(i) > logit(best))
            best = i;
    return best;
}
{% endif %}
