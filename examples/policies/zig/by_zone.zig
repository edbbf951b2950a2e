//! Weights by zone: {"zones": {"zone-a": 3, "zone-b": 1}, "default": 1}. A weight of 0 drains a zone.
//!
//! The same policy stands beside this one in other languages.

const std = @import("std");
const abi = @import("abi.zig");

/// What a Service may set.
const Settings = struct {
    zones: std.StringHashMapUnmanaged(u32) = .empty,
    default: u32 = 1,
};

/// Settings, or a problem with one field of them.
const Read = union(enum) {
    settings: Settings,
    problem: abi.Problem,
};

fn problem(path: []const u8, message: []const u8) Read {
    return .{ .problem = .{ .path = .of(path), .message = .of(message) } };
}

/// A weight; null for what is none.
fn weight(value: std.json.Value) ?u32 {
    return switch (value) {
        .integer => |figure| if (figure >= 0 and figure <= 1000) @intCast(figure) else null,
        else => null,
    };
}

const no_weight = "expected a whole number from 0 to 1000";

/// Reads settings; none means that every zone counts the same. A typing error shall not pass for a setting, so unknown
/// fields are refused.
fn read(json: []const u8) Read {
    var settings: Settings = .{};
    if (json.len == 0) return .{ .settings = settings };
    const whole = std.json.parseFromSliceLeaky(std.json.Value, abi.memory, json, .{}) catch
        return problem("", "expected a JSON object");
    if (whole != .object) return problem("", "expected a JSON object");
    var fields = whole.object.iterator();
    while (fields.next()) |field| {
        const name = field.key_ptr.*;
        const value = field.value_ptr.*;
        if (std.mem.eql(u8, name, "default")) {
            settings.default = weight(value) orelse return problem("default", no_weight);
        } else if (std.mem.eql(u8, name, "zones")) {
            if (value != .object) return problem("zones", "expected an object of weights by zone");
            var zones = value.object.iterator();
            while (zones.next()) |zone| {
                const figure = weight(zone.value_ptr.*) orelse
                    return problem(abi.print("zones.{s}", .{zone.key_ptr.*}), no_weight);
                settings.zones.put(abi.memory, zone.key_ptr.*, figure) catch @panic("out of memory");
            }
        } else {
            return problem(name, "unknown field; known are zones and default");
        }
    }
    return .{ .settings = settings };
}

pub fn describe() abi.Info {
    return .{
        .name = .of("by-zone"),
        .version = .of("0.1.0"),
        .summary = .of("Connections in proportion to weights of zones."),
        .licence = .of("Apache-2.0"),
        // Names of zones are always there for those who ask the view; no column is needed.
        .inputs = .{ .names = true },
    };
}

pub fn check(settings: []const u8) ?abi.Problem {
    return switch (read(settings)) {
        .settings => null,
        .problem => |found| found,
    };
}

/// Decides one ring. Positions are those within the ring.
pub fn spread(view: abi.View, ring: abi.Ring) abi.Answer {
    const settings = switch (read(view.settings(ring.id))) {
        .settings => |settings| settings,
        .problem => |found| return .{ .invalid_settings = if (found.path.len == 0)
            found.message.slice()
        else
            abi.print("{s}: {s}", .{ found.path.slice(), found.message.slice() }) },
    };
    const weights = abi.allocate(u32, ring.count);
    var known: u32 = 0;
    for (weights, 0..) |*figure, endpoint| {
        if (settings.zones.get(view.endpointZone(ring.id, @intCast(endpoint)))) |of_zone| {
            known += 1;
            figure.* = of_zone;
        } else {
            figure.* = settings.default;
        }
    }
    return .{ .spread = .{
        .id = ring.id,
        .index = .random,
        .share = .weights,
        .figures = .of(weights),
        .affinity_seconds = ring.affinity_seconds,
        .again_seconds = 0,
        .reason = .of(abi.print("{d} of {d} endpoints in zones with weights", .{ known, ring.count })),
    } };
}

comptime {
    abi.exportPolicy(@This());
}
