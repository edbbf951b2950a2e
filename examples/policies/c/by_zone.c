// Weights by zone: {"zones": {"zone-a": 3, "zone-b": 1}, "default": 1}. A weight of 0 drains a zone.
//
// The same policy stands beside this one in other languages.
//
// Memory is never given back: each call runs in a fresh instance, whose memory goes with it.

#include "bindings/policy.h"
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Texts are the bindings' own type: UTF-8, a pointer and a length, no zero at the end.
typedef policy_string_t text;
typedef exports_weir_policy_about_problem_t problem;

// What a Service may set. The zones stay in the JSON, where a pass over a handful of them finds one.
typedef struct {
  text zones;
  uint32_t unnamed;
} settings;

static text literal(const char *words) {
  return (text){(uint8_t *)words, strlen(words)};
}

static bool is(text one, const char *other) {
  return one.len == strlen(other) && memcmp(one.ptr, other, one.len) == 0;
}

static text join(text one, const char *between, text other) {
  size_t middle = strlen(between);
  text both = {malloc(one.len + middle + other.len), one.len + middle + other.len};
  if (both.ptr == NULL) abort();
  memcpy(both.ptr, one.ptr, one.len);
  memcpy(both.ptr + one.len, between, middle);
  memcpy(both.ptr + one.len + middle, other.ptr, other.len);
  return both;
}

static bool wrong(problem *found, text path, const char *message) {
  *found = (problem){path, literal(message)};
  return false;
}

// Reads a weight, or says what is wrong with it.
static bool read_weight(text path, text value, uint32_t *weight, problem *found) {
  if (json_number(value, 1000, weight)) return true;
  return wrong(found, path, "expected a whole number from 0 to 1000");
}

// Reads settings; none means that every zone counts the same. A typing error shall not pass for a setting, so unknown
// fields are refused.
static bool read_settings(text json, settings *read, problem *found) {
  *read = (settings){literal("{}"), 1};
  if (json.len == 0) return true;
  if (!json_is_object(json)) return wrong(found, literal(""), "expected a JSON object");
  text name, value;
  for (text fields = json; json_next(&fields, &name, &value);) {
    if (is(name, "default")) {
      if (!read_weight(name, value, &read->unnamed, found)) return false;
    } else if (is(name, "zones")) {
      if (!json_is_object(value)) return wrong(found, name, "expected an object of weights by zone");
      read->zones = value;
      text zone, figure;
      uint32_t weight;
      for (text zones = value; json_next(&zones, &zone, &figure);) {
        if (!json_number(figure, 1000, &weight)) {
          return read_weight(join(name, ".", zone), figure, &weight, found);
        }
      }
    } else {
      return wrong(found, name, "unknown field; known are zones and default");
    }
  }
  return true;
}

void exports_weir_policy_about_describe(exports_weir_policy_about_info_t *info) {
  policy_string_dup(&info->name, "by-zone");
  policy_string_dup(&info->version, "0.1.0");
  policy_string_dup(&info->summary, "Connections in proportion to weights of zones.");
  policy_string_dup(&info->licence, "Apache-2.0");
  // Names of zones are always there for those who ask the view; no column is needed.
  info->inputs = EXPORTS_WEIR_POLICY_ABOUT_INPUTS_NAMES;
}

// The bindings free what they handed to the host, so all of it must come from malloc.
static text owned(text borrowed) {
  return join(borrowed, "", literal(""));
}

void exports_weir_policy_about_check(text *json, exports_weir_policy_about_list_problem_t *problems) {
  settings read;
  problem found;
  *problems = (exports_weir_policy_about_list_problem_t){NULL, 0};
  if (read_settings(*json, &read, &found)) return;
  problems->ptr = malloc(sizeof(problem));
  if (problems->ptr == NULL) abort();
  problems->len = 1;
  problems->ptr[0] = (problem){owned(found.path), owned(found.message)};
}

// Decides one ring. Positions are those within the ring.
static bool spread(weir_policy_snapshot_borrow_view_t view, exports_weir_policy_balancer_ring_t *ring,
                   exports_weir_policy_balancer_spread_t *answer, problem *found) {
  text json;
  settings read;
  weir_policy_snapshot_method_view_settings(view, ring->id, &json);
  if (!read_settings(json, &read, found)) return false;

  uint32_t *weights = malloc(ring->count * sizeof *weights);
  if (weights == NULL) abort();
  uint32_t known = 0;
  for (uint32_t endpoint = 0; endpoint < ring->count; endpoint++) {
    text zone, name, value;
    weir_policy_snapshot_method_view_endpoint_zone(view, ring->id, endpoint, &zone);
    bool named = false;
    // The last of several equal names counts, as JSON readers have it.
    for (text zones = read.zones; json_next(&zones, &name, &value);) {
      if (name.len == zone.len && memcmp(name.ptr, zone.ptr, zone.len) == 0) {
        named = json_number(value, 1000, &weights[endpoint]);
      }
    }
    if (named) {
      known++;
    } else {
      weights[endpoint] = read.unnamed;
    }
  }

  char reason[80];
  snprintf(reason, sizeof reason, "%u of %u endpoints in zones with weights", (unsigned)known, (unsigned)ring->count);
  answer->id = ring->id;
  answer->index = EXPORTS_WEIR_POLICY_BALANCER_INDEX_FUNCTION_RANDOM;
  answer->share.tag = EXPORTS_WEIR_POLICY_BALANCER_SHARE_WEIGHTS;
  answer->share.val.weights = (policy_list_u32_t){weights, ring->count};
  answer->affinity_seconds = ring->affinity_seconds;
  answer->again_seconds = 0;
  policy_string_dup(&answer->reason, reason);
  return true;
}

bool exports_weir_policy_balancer_balance(exports_weir_policy_balancer_borrow_view_t view,
                                          exports_weir_policy_balancer_list_ring_t *rings,
                                          exports_weir_policy_balancer_columns_t *members,
                                          exports_weir_policy_balancer_list_spread_t *answers,
                                          exports_weir_policy_balancer_policy_error_t *error) {
  (void)members;
  problem found;
  bool done = true;
  answers->len = rings->len;
  answers->ptr = calloc(rings->len, sizeof *answers->ptr);
  if (answers->ptr == NULL && rings->len > 0) abort();
  for (size_t at = 0; done && at < rings->len; at++) {
    done = spread(view, &rings->ptr[at], &answers->ptr[at], &found);
  }
  if (!done) {
    error->tag = WEIR_POLICY_TYPES_POLICY_ERROR_INVALID_SETTINGS;
    error->val.invalid_settings = found.path.len == 0 ? owned(found.message) : join(found.path, ": ", found.message);
  }
  // A borrowed handle has to be given back before the call returns.
  weir_policy_snapshot_view_drop_borrow(view);
  return done;
}
