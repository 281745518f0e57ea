/* {{ title }}

   {{ summary }}

   Written by snn-energy {{ version }}; integers only, no heap, nothing of the C library but memset and memcpy. */
#ifndef NETWORK_H
#define NETWORK_H

#include <stdint.h>

#define NETWORK_STEPS {{ steps }} /* time steps of one sample */
#define NETWORK_INPUTS {{ inputs }} /* messages of one step: {{ input_shape }}, in (channel, row, column) order */
#define NETWORK_OUTPUTS {{ outputs }} /* sums of the readout{{ '' if readouts == 1 else 's' }} */
#define NETWORK_LAG {{ lag }} /* steps after which a sample's first step has gone through the whole network */

/* A message: {{ messages }}. */
typedef {{ input_type }} network_input;

/* Forget everything: the next step is the first one of a sample. */
void network_reset(void);

/* One time step.  NULL feeds nothing and lets what is still under way move on.
   Returns 1 where a sample is complete, else 0; -1 where a value did not fit its register (network_wrong says
   where), after which only network_reset helps.  Samples may follow each other without a reset. */
int32_t network_step(const network_input *x);

/* One whole sample from rest: `frames` is 1 (x is held for every step) or NETWORK_STEPS.
   Returns what network_step returns at its end. */
int32_t network_infer(const network_input *x, int32_t frames);
{% if readouts %}
/* What the readout{{ '' if readouts == 1 else 's' }} summed over the last complete sample:
{%- for r in readout_lines %}
   {{ r }}
{%- endfor %} */
extern {{ sum_type }} network_sums[NETWORK_OUTPUTS];
{% endif %}
{%- if readouts == 1 %}
/* The class with the largest logit. */
int32_t network_class(void);
{% endif %}
/* The node (see network.c) that a value did not fit, or -1. */
extern int32_t network_wrong;

/* Built with -DNETWORK_TRACED, every value of every step is shown to a function of yours. */
#ifdef NETWORK_TRACED
void network_trace(int32_t node, int32_t step, const void *values);
#define NETWORK_TRACE(node, step, values) network_trace((node), (step), (values))
#else
#define NETWORK_TRACE(node, step, values) ((void)0)
#endif

#endif
