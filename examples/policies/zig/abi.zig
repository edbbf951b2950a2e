//! The world `balancer-only` of `wit/policy.wit` as the canonical ABI of the component model lays it out: what a
//! generator of bindings would write, if there were one for Zig. Other languages without one can be served alike.
//!
//! Strings and lists are a pointer and a length; an enum is a byte; records lie in memory as C structs would; a record
//! of more than sixteen scalars, or a result of more than one, is passed by its address.

const std = @import("std");

/// Nothing is ever given back: each call runs in a fresh instance, whose memory goes with it.
pub const memory = std.heap.wasm_allocator;

/// At least one, whose memory is real: the allocator's address for nothing lies beyond the memory, and the host refuses
/// even an empty list there.
pub fn allocate(comptime T: type, count: usize) []T {
    const items = memory.alloc(T, @max(count, 1)) catch @panic("out of memory");
    return items[0..count];
}

pub fn print(comptime format: []const u8, args: anytype) []const u8 {
    return std.fmt.allocPrint(memory, format, args) catch @panic("out of memory");
}

/// `list<T>`; of bytes, also `string`.
pub fn List(comptime T: type) type {
    return extern struct {
        ptr: [*]const T,
        len: usize,

        pub fn of(items: []const T) @This() {
            return .{ .ptr = items.ptr, .len = items.len };
        }

        pub fn slice(self: @This()) []const T {
            return self.ptr[0..self.len];
        }
    };
}

pub const String = List(u8);

// --- Interface `about` ---

pub const Inputs = packed struct(u8) {
    names: bool = false,
    zones: bool = false,
    loads: bool = false,
    ages: bool = false,
    shares: bool = false,
    pods: bool = false,
    annotations: bool = false,
    _: u1 = 0,
};

pub const Info = extern struct { name: String, version: String, summary: String, licence: String, inputs: Inputs };

pub const Problem = extern struct { path: String, message: String };

// --- Interface `balancer` ---

pub const Ring = extern struct {
    id: u32,
    number: u16,
    protocol: enum(u8) { tcp, udp, sctp },
    local: bool,
    affinity_seconds: u32,
    first: u32,
    count: u32,
};

/// A `spread`. `figures` holds the payload of `share`: weights or slots; `equal` has none.
pub const Spread = extern struct {
    id: u32,
    index: enum(u8) { random, round_robin, source_hash, flow_hash },
    share: enum(u8) { equal, weights, slots } align(4),
    figures: List(u32),
    affinity_seconds: u32,
    again_seconds: u32,
    reason: String,
};

/// The columns of the members.
pub const Columns = extern struct {
    ids: List(u32),
    conditions: List(u8),
    weights: List(u32),
    zones: List(u32),
    loads: extern struct { active: List(u32), begun: List(u32), per_minute: List(u32) },
    ages: List(u32),
    shares: List(u32),
    here: u32,
};

/// What a policy answers for one ring.
pub const Answer = union(enum) { spread: Spread, invalid_settings: []const u8 };

/// The arguments of `balance`.
const Arguments = extern struct { view: View, rings: List(Ring), members: Columns };

/// `result<list<spread>, policy-error>`.
const Result = extern struct {
    failed: bool,
    payload: extern union {
        spreads: List(Spread),
        problem: extern struct { kind: enum(u8) { invalid_settings, unsupported, internal }, message: String },
    },
};

// --- Interface `snapshot` ---

const snapshot = struct {
    extern "weir:policy/snapshot@0.2.0" fn @"[method]view.settings"(view: View, port: u32, result: *String) void;
    extern "weir:policy/snapshot@0.2.0" fn @"[method]view.endpoint-zone"(
        view: View,
        port: u32,
        endpoint: u32,
        result: *String,
    ) void;
    extern "weir:policy/snapshot@0.2.0" fn @"[resource-drop]view"(view: View) void;
};

/// A borrowed handle, good for one call. Functions that this policy does not use are left out.
pub const View = enum(u32) {
    _,

    pub fn settings(self: View, port: u32) []const u8 {
        var result: String = undefined;
        snapshot.@"[method]view.settings"(self, port, &result);
        return result.slice();
    }

    pub fn endpointZone(self: View, port: u32, endpoint: u32) []const u8 {
        var result: String = undefined;
        snapshot.@"[method]view.endpoint-zone"(self, port, endpoint, &result);
        return result.slice();
    }
};

// --- What the host calls ---

/// Exports `Policy.describe`, `Policy.check` and `Policy.spread` under the names of the contract.
pub fn exportPolicy(comptime Policy: type) void {
    const functions = struct {
        fn describe() callconv(.c) *const Info {
            const info = &allocate(Info, 1)[0];
            info.* = Policy.describe();
            return info;
        }

        fn check(ptr: [*]const u8, len: usize) callconv(.c) *const List(Problem) {
            const problems = allocate(Problem, 1);
            const found = Policy.check(ptr[0..len]);
            if (found) |problem| problems[0] = problem;
            const result = &allocate(List(Problem), 1)[0];
            result.* = .of(problems[0..@intFromBool(found != null)]);
            return result;
        }

        fn balance(arguments: *const Arguments) callconv(.c) *const Result {
            const result = &allocate(Result, 1)[0];
            result.* = spreads(arguments.view, arguments.rings.slice());
            // A borrowed handle has to be given back before the call returns.
            snapshot.@"[resource-drop]view"(arguments.view);
            return result;
        }

        fn spreads(view: View, rings: []const Ring) Result {
            const list = allocate(Spread, rings.len);
            for (rings, list) |ring, *to| {
                switch (Policy.spread(view, ring)) {
                    .spread => |answer| to.* = answer,
                    .invalid_settings => |message| return .{ .failed = true, .payload = .{
                        .problem = .{ .kind = .invalid_settings, .message = .of(message) },
                    } },
                }
            }
            return .{ .failed = false, .payload = .{ .spreads = .of(list) } };
        }

        /// How the host makes room for what it hands over. `old` is only ever empty here.
        fn realloc(old: [*]u8, old_len: usize, alignment: usize, len: usize) callconv(.c) [*]u8 {
            _ = old;
            _ = old_len;
            // Everything in the contract is aligned to at most four bytes.
            std.debug.assert(alignment <= 8);
            return @ptrCast(allocate(u64, (len + 7) / 8).ptr);
        }
    };
    @export(&functions.describe, .{ .name = "weir:policy/about@0.2.0#describe" });
    @export(&functions.check, .{ .name = "weir:policy/about@0.2.0#check" });
    @export(&functions.balance, .{ .name = "weir:policy/balancer@0.2.0#balance" });
    @export(&functions.realloc, .{ .name = "cabi_realloc" });
}
