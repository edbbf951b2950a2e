//! Plays a role of the contract, but of a version Weir does not speak.

wit_bindgen::generate!({
    inline: "package weir:policy@0.3.0; interface balancer { balance: func(); } world next-one { export balancer; }",
});

struct NextVersion;

impl exports::weir::policy::balancer::Guest for NextVersion {
    fn balance() {}
}

export!(NextVersion);
