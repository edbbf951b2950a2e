// Weights by zone: {"zones": {"zone-a": 3, "zone-b": 1}, "default": 1}. A weight of 0 drains a zone.
//
// The same policy stands beside this one in other languages.

// What is thrown out of an exported function that returns a `result` is its error; here the variant `policy-error`.
class Problem extends Error {
  constructor(path, message) {
    super(message);
    this.path = path;
  }
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

// A weight, or a Problem with the field at `path`.
function weight(path, value) {
  if (Number.isInteger(value) && value >= 0 && value <= 1000) return value;
  throw new Problem(path, "expected a whole number from 0 to 1000");
}

// Reads settings; none means that every zone counts the same. A typing error shall not pass for a setting, so unknown
// fields are refused.
function read(json) {
  const settings = { zones: new Map(), default: 1 };
  if (json === "") return settings;
  let fields;
  try {
    fields = JSON.parse(json);
  } catch {
    fields = null;
  }
  if (!isObject(fields)) throw new Problem("", "expected a JSON object");
  for (const [name, value] of Object.entries(fields)) {
    if (name === "default") {
      settings.default = weight("default", value);
    } else if (name === "zones") {
      if (!isObject(value)) throw new Problem("zones", "expected an object of weights by zone");
      for (const [zone, figure] of Object.entries(value)) settings.zones.set(zone, weight(`zones.${zone}`, figure));
    } else {
      throw new Problem(name, "unknown field; known are zones and default");
    }
  }
  return settings;
}

export const about = {
  describe() {
    return {
      name: "by-zone",
      version: "0.1.0",
      summary: "Connections in proportion to weights of zones.",
      licence: "Apache-2.0",
      // Names of zones are always there for those who ask the view; no column is needed.
      inputs: { names: true },
    };
  },

  check(settings) {
    try {
      read(settings);
      return [];
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      return [{ path: problem.path, message: problem.message }];
    }
  },
};

export const balancer = {
  balance(view, rings, _members) {
    try {
      return rings.map((ring) => spread(view, ring));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      const { path, message } = problem;
      throw { tag: "invalid-settings", val: path === "" ? message : `${path}: ${message}` };
    }
  },
};

// Decides one ring. Positions are those within the ring.
function spread(view, ring) {
  const settings = read(view.settings(ring.id));
  let known = 0;
  const weights = Array.from({ length: ring.count }, (_, endpoint) => {
    const figure = settings.zones.get(view.endpointZone(ring.id, endpoint));
    if (figure !== undefined) known += 1;
    return figure ?? settings.default;
  });
  return {
    id: ring.id,
    index: "random",
    share: { tag: "weights", val: weights },
    affinitySeconds: ring.affinitySeconds,
    againSeconds: 0,
    reason: `${known} of ${ring.count} endpoints in zones with weights`,
  };
}
