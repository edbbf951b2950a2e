package main

// The world `balancer-only` of `wit/policy.wit` as the canonical ABI of the component model lays it out. `wit-bindgen
// go` writes the like of it for any world; that needs the Go module go.bytecodealliance.org/pkg, and this needs nothing.
//
// Strings and lists are a pointer and a length; an enum is a byte; records lie in memory as C structs would; a record of
// more than sixteen scalars, or a result of more than one, is passed by its address.

import (
	"runtime/debug"
	"unsafe"
)

func main() {}

// Each call runs in a fresh instance, whose memory goes with it: there is nothing to collect, and what the host was
// handed stays where it is.
func init() {
	debug.SetGCPercent(-1)
}

// pointer becomes 32 bits where it crosses to the host.
type pointer = unsafe.Pointer

// list is a string or list in the host's layout. Pointers in Go's own structs take 64 bits, so addresses are numbers here.
type list struct {
	address, len uint32
}

func listOf[T any](items []T) list {
	return list{uint32(uintptr(pointer(unsafe.SliceData(items)))), uint32(len(items))}
}

func textOf(value string) list {
	return list{uint32(uintptr(pointer(unsafe.StringData(value)))), uint32(len(value))}
}

func (of list) pointer() pointer {
	return pointer(uintptr(of.address))
}

func (of list) text() string {
	return unsafe.String((*byte)(of.pointer()), of.len)
}

// --- Interface `about` ---

// Info is a label on the jar.
type Info struct {
	Name, Version, Summary, Licence string
	Inputs                          Inputs
}

// Inputs is what a policy wants to see.
type Inputs uint8

// Names is the input that tells who is who. It is the lowest of seven bits; zones, loads, ages, shares, pods and annotations
// follow.
const Names Inputs = 1

// Problem is what is wrong with settings.
type Problem struct {
	Path, Message string
}

type rawProblem struct{ path, message list }

//go:wasmexport weir:policy/about@0.2.0#describe
func exportDescribe() pointer {
	info := Describe()
	return pointer(&struct {
		name, version, summary, licence list
		inputs                          Inputs
	}{textOf(info.Name), textOf(info.Version), textOf(info.Summary), textOf(info.Licence), info.Inputs})
}

//go:wasmexport weir:policy/about@0.2.0#check
func exportCheck(ptr pointer, length uint32) pointer {
	var problems []rawProblem
	for _, problem := range Check(unsafe.String((*byte)(ptr), length)) {
		problems = append(problems, rawProblem{textOf(problem.Path), textOf(problem.Message)})
	}
	result := listOf(problems)
	return pointer(&result)
}

// --- Interface `balancer` ---

// Ring is a list of eligible endpoints.
type Ring struct {
	ID              uint32
	Number          uint16
	Protocol        uint8
	Local           bool
	AffinitySeconds uint32
	First           uint32
	Count           uint32
}

// Index functions, kinds of share and kinds of error that this policy uses.
const (
	Random          = uint8(0)
	Weights         = uint8(1)
	InvalidSettings = uint8(0)
)

// Spread is the answer for one ring. Figures holds the weights.
type Spread struct {
	ID              uint32
	Index           uint8
	Share           uint8
	Figures         []uint32
	AffinitySeconds uint32
	Reason          string
}

// PolicyError is why there is no answer.
type PolicyError struct {
	Kind    uint8
	Message string
}

type rawSpread struct {
	id              uint32
	index           uint8
	_               [3]byte
	share           uint8
	_               [3]byte
	figures         list
	affinitySeconds uint32
	againSeconds    uint32
	reason          list
}

// The arguments of `balance`, and the columns of the members behind them, of which this policy reads none.
type arguments struct {
	view  View
	rings list
}

//go:wasmexport weir:policy/balancer@0.2.0#balance
func exportBalance(raw pointer) pointer {
	given := (*arguments)(raw)
	spreads, failed := Balance(given.view, unsafe.Slice((*Ring)(given.rings.pointer()), given.rings.len))
	// A borrowed handle has to be given back before the call returns.
	dropView(given.view)
	if failed != nil {
		return pointer(&struct {
			failed  bool
			_       [3]byte
			kind    uint8
			_       [3]byte
			message list
		}{failed: true, kind: failed.Kind, message: textOf(failed.Message)})
	}
	answers := make([]rawSpread, len(spreads))
	for at, spread := range spreads {
		answers[at] = rawSpread{
			id:              spread.ID,
			index:           spread.Index,
			share:           spread.Share,
			figures:         listOf(spread.Figures),
			affinitySeconds: spread.AffinitySeconds,
			reason:          textOf(spread.Reason),
		}
	}
	return pointer(&struct {
		failed  bool
		_       [3]byte
		answers list
		_       uint32
	}{answers: listOf(answers)})
}

// --- Interface `snapshot` ---

// View is a borrowed handle, good for one call. Functions that this policy does not use are left out.
type View uint32

//go:wasmimport weir:policy/snapshot@0.2.0 [method]view.settings
func viewSettings(view View, port uint32, result pointer)

//go:wasmimport weir:policy/snapshot@0.2.0 [method]view.endpoint-zone
func viewEndpointZone(view View, port uint32, endpoint uint32, result pointer)

//go:wasmimport weir:policy/snapshot@0.2.0 [resource-drop]view
func dropView(view View)

// Settings of the Service of that port.
func (view View) Settings(port uint32) string {
	var result list
	viewSettings(view, port, pointer(&result))
	return result.text()
}

// EndpointZone is the zone of an endpoint; empty when unknown.
func (view View) EndpointZone(port, endpoint uint32) string {
	var result list
	viewEndpointZone(view, port, endpoint, pointer(&result))
	return result.text()
}

// How the host makes room for what it hands over. Words, since nothing in the contract is aligned to more.
//
//go:wasmexport cabi_realloc
func exportRealloc(old pointer, oldSize, alignment, size uint32) pointer {
	return pointer(unsafe.SliceData(make([]uint32, (size+3)/4)))
}
