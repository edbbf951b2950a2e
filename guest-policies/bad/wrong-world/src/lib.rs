//! A component, but no policy: it exports something else.

wit_bindgen::generate!({ path: "wit" });

struct Greeter;

impl Guest for Greeter {
    fn greet() -> String {
        "hello".to_owned()
    }
}

export!(Greeter);
