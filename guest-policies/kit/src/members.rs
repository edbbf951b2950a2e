//! The endpoints of a ring, as a balancer sees them.

use crate::{Columns, Load, Ring, View};

/// The members of one ring. Positions are those within the ring.
pub struct Members<'a> {
    view: &'a View,
    ring: &'a Ring,
    columns: &'a Columns,
}

impl<'a> Members<'a> {
    pub(crate) fn new(view: &'a View, ring: &'a Ring, columns: &'a Columns) -> Self {
        Self { view, ring, columns }
    }

    fn stretch<T>(&self, column: &'a [T]) -> &'a [T] {
        column.get(self.ring.first as usize..).and_then(|rest| rest.get(..self.count())).unwrap_or_default()
    }

    /// What the Service asks for.
    pub fn ring(&self) -> &'a Ring {
        self.ring
    }

    /// How many; never 0.
    pub fn count(&self) -> usize {
        self.ring.count as usize
    }

    /// A number for each, the same on every node.
    pub fn ids(&self) -> &'a [u32] {
        self.stretch(&self.columns.ids)
    }

    /// Weights by EndpointSlice; 1 is usual, 0 drains.
    pub fn weights(&self) -> &'a [u32] {
        self.stretch(&self.columns.weights)
    }

    /// Numbers of zones, if asked for; 0 is unknown.
    pub fn zones(&self) -> &'a [u32] {
        self.stretch(&self.columns.zones)
    }

    /// The number of this node's zone, if zones were asked for; 0 when unknown.
    pub fn here(&self) -> u32 {
        self.columns.here
    }

    /// Loads, if asked for.
    pub fn loads(&self) -> &'a [Load] {
        self.stretch(&self.columns.loads)
    }

    /// Seconds each has been ready, if asked for.
    pub fn ages(&self) -> &'a [u32] {
        self.stretch(&self.columns.ages)
    }

    /// Slots each has now, if asked for.
    pub fn shares(&self) -> &'a [u32] {
        self.stretch(&self.columns.shares)
    }

    /// The address of one. Costs a call.
    pub fn address(&self, at: u32) -> String {
        self.view.endpoint_address(self.ring.id, at)
    }

    /// The pod behind one, if pods were asked for. Costs a call.
    pub fn pod(&self, at: u32) -> String {
        self.view.endpoint_pod(self.ring.id, at)
    }

    /// The node one runs on. Costs a call.
    pub fn node(&self, at: u32) -> String {
        self.view.endpoint_node(self.ring.id, at)
    }

    /// The zone of one. Costs a call.
    pub fn zone(&self, at: u32) -> String {
        self.view.endpoint_zone(self.ring.id, at)
    }

    /// The name of this node. Costs a call.
    pub fn this_node(&self) -> String {
        self.view.node_name()
    }
}
