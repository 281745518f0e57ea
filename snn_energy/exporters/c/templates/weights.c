/* Weights, biases and lists of synapses: constants, which lie in flash. */
#include "weights.h"
{% for array in arrays %}
/* {{ array.comment }} */
const {{ array.ctype }} {{ array.name }}[{{ array.size }}] = {
{{ array.text }}
};
{% endfor %}
