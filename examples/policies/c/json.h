// As much of JSON as settings need: walks an object without copying it. Names and strings come as they are written, so
// a name with an escape in it equals no other spelling of itself; names of zones have none.

#ifndef JSON_H
#define JSON_H

#include "bindings/policy.h"

// Whether `text` is one JSON object and nothing more. The functions below rely on it.
bool json_is_object(policy_string_t text);

// Takes the next member off `object`; false when there is none. At first `object` is the whole object's text.
bool json_next(policy_string_t *object, policy_string_t *name, policy_string_t *value);

// Reads a whole number from 0 to `most`; false if `value` is none.
bool json_number(policy_string_t value, uint32_t most, uint32_t *number);

#endif
