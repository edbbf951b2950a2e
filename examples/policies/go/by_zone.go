// Weights by zone: {"zones": {"zone-a": 3, "zone-b": 1}, "default": 1}. A weight of 0 drains a zone.
//
// The same policy stands beside this one in other languages.
package main

import (
	"encoding/json"
	"fmt"
)

// Settings is what a Service may set.
type Settings struct {
	Zones   map[string]uint32
	Default uint32
}

// weight reads a weight, or says what is wrong with the field at path.
func weight(path string, value json.RawMessage) (uint32, *Problem) {
	var figure uint32
	// A null would leave the figure as it is.
	if err := json.Unmarshal(value, &figure); err != nil || string(value) == "null" || figure > 1000 {
		return 0, &Problem{path, "expected a whole number from 0 to 1000"}
	}
	return figure, nil
}

// object reads a JSON object, member by member; nil if it is none.
func object(text []byte) map[string]json.RawMessage {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil
	}
	return members
}

// read reads settings; none means that every zone counts the same. A typing error shall not pass for a setting, so
// unknown fields are refused.
func read(text string) (Settings, *Problem) {
	settings := Settings{Zones: map[string]uint32{}, Default: 1}
	if text == "" {
		return settings, nil
	}
	fields := object([]byte(text))
	if fields == nil {
		return settings, &Problem{"", "expected a JSON object"}
	}
	for name, value := range fields {
		var problem *Problem
		switch name {
		case "default":
			if settings.Default, problem = weight("default", value); problem != nil {
				return settings, problem
			}
		case "zones":
			zones := object(value)
			if zones == nil {
				return settings, &Problem{"zones", "expected an object of weights by zone"}
			}
			for zone, figure := range zones {
				if settings.Zones[zone], problem = weight("zones."+zone, figure); problem != nil {
					return settings, problem
				}
			}
		default:
			return settings, &Problem{name, "unknown field; known are zones and default"}
		}
	}
	return settings, nil
}

// Describe says what this policy is.
func Describe() Info {
	return Info{
		Name:    "by-zone",
		Version: "0.1.0",
		Summary: "Connections in proportion to weights of zones.",
		Licence: "Apache-2.0",
		Inputs:  Names,
	}
}

// Check says what is wrong with settings.
func Check(text string) []Problem {
	if _, problem := read(text); problem != nil {
		return []Problem{*problem}
	}
	return nil
}

// Balance decides a batch.
func Balance(view View, rings []Ring) ([]Spread, *PolicyError) {
	spreads := make([]Spread, len(rings))
	for at, ring := range rings {
		settings, problem := read(view.Settings(ring.ID))
		if problem != nil {
			message := problem.Message
			if problem.Path != "" {
				message = problem.Path + ": " + message
			}
			return nil, &PolicyError{InvalidSettings, message}
		}
		spreads[at] = spread(view, ring, settings)
	}
	return spreads, nil
}

// spread decides one ring. Positions are those within the ring.
func spread(view View, ring Ring, settings Settings) Spread {
	known := 0
	weights := make([]uint32, ring.Count)
	for endpoint := range weights {
		figure, named := settings.Zones[view.EndpointZone(ring.ID, uint32(endpoint))]
		if named {
			known++
		} else {
			figure = settings.Default
		}
		weights[endpoint] = figure
	}
	return Spread{
		ID:              ring.ID,
		Index:           Random,
		Share:           Weights,
		Figures:         weights,
		AffinitySeconds: ring.AffinitySeconds,
		Reason:          fmt.Sprintf("%d of %d endpoints in zones with weights", known, ring.Count),
	}
}
