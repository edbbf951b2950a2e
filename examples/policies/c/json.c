#include "json.h"

#include <string.h>

// Deeper nesting is refused rather than followed: every level costs stack.
#define DEEPEST 100

// What is left to read.
typedef struct {
  const uint8_t *at, *end;
} rest;

static void skip_space(rest *r) {
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
}

static bool skip_char(rest *r, char wanted) {
  if (r->at == r->end || *r->at != (uint8_t)wanted) return false;
  r->at++;
  return true;
}

static bool skip_word(rest *r, const char *word) {
  size_t len = strlen(word);
  if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0) return false;
  r->at += len;
  return true;
}

static bool skip_hex(rest *r) {
  if (r->at == r->end || strchr("0123456789abcdefABCDEF", *r->at) == NULL || *r->at == 0) return false;
  r->at++;
  return true;
}

static bool skip_string(rest *r) {
  if (!skip_char(r, '"')) return false;
  while (r->at < r->end && *r->at >= ' ') {
    if (skip_char(r, '"')) return true;
    if (!skip_char(r, '\\')) {
      r->at++;
    } else if (skip_char(r, 'u')) {
      for (int digit = 0; digit < 4; digit++) {
        if (!skip_hex(r)) return false;
      }
    } else if (r->at == r->end || *r->at == 0 || strchr("\"\\/bfnrt", *r->at++) == NULL) {
      return false;
    }
  }
  return false;
}

static bool skip_digits(rest *r) {
  const uint8_t *from = r->at;
  while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
  return r->at > from;
}

static bool skip_number(rest *r) {
  skip_char(r, '-');
  if (!skip_char(r, '0') && !skip_digits(r)) return false;
  if (skip_char(r, '.') && !skip_digits(r)) return false;
  if (skip_char(r, 'e') || skip_char(r, 'E')) {
    if (!skip_char(r, '+')) skip_char(r, '-');
    return skip_digits(r);
  }
  return true;
}

static bool skip_value(rest *r, int depth);

// The inside of an object or array, up to and with the closing bracket.
static bool skip_members(rest *r, char close, int depth) {
  skip_space(r);
  if (skip_char(r, close)) return true;
  do {
    skip_space(r);
    if (close == '}') {
      if (!skip_string(r)) return false;
      skip_space(r);
      if (!skip_char(r, ':')) return false;
      skip_space(r);
    }
    if (!skip_value(r, depth + 1)) return false;
    skip_space(r);
  } while (skip_char(r, ','));
  return skip_char(r, close);
}

static bool skip_value(rest *r, int depth) {
  if (r->at == r->end || depth > DEEPEST) return false;
  if (skip_char(r, '{')) return skip_members(r, '}', depth);
  if (skip_char(r, '[')) return skip_members(r, ']', depth);
  if (*r->at == '"') return skip_string(r);
  return skip_word(r, "true") || skip_word(r, "false") || skip_word(r, "null") || skip_number(r);
}

bool json_is_object(policy_string_t text) {
  rest r = {text.ptr, text.ptr + text.len};
  skip_space(&r);
  if (r.at == r.end || *r.at != '{' || !skip_value(&r, 0)) return false;
  skip_space(&r);
  return r.at == r.end;
}

bool json_next(policy_string_t *object, policy_string_t *name, policy_string_t *value) {
  rest r = {object->ptr, object->ptr + object->len};
  skip_space(&r);
  if (!skip_char(&r, '{')) skip_char(&r, ',');
  skip_space(&r);
  const uint8_t *from = r.at;
  if (!skip_string(&r)) return false;
  *name = (policy_string_t){(uint8_t *)from + 1, (size_t)(r.at - from) - 2};
  skip_space(&r);
  skip_char(&r, ':');
  skip_space(&r);
  from = r.at;
  skip_value(&r, 0);
  *value = (policy_string_t){(uint8_t *)from, (size_t)(r.at - from)};
  *object = (policy_string_t){(uint8_t *)r.at, (size_t)(r.end - r.at)};
  return true;
}

bool json_number(policy_string_t value, uint32_t most, uint32_t *number) {
  uint32_t read = 0;
  for (size_t at = 0; at < value.len; at++) {
    if (value.ptr[at] < '0' || value.ptr[at] > '9') return false;
    read = read * 10 + (value.ptr[at] - '0');
    if (read > most) return false;
  }
  *number = read;
  return value.len > 0;
}
