/* The constants of weights.c. */
#ifndef WEIGHTS_H
#define WEIGHTS_H

#include <stdint.h>
{% for array in arrays %}
extern const {{ array.ctype }} {{ array.name }}[{{ array.size }}]; /* {{ array.comment }} */
{%- endfor %}

#endif
