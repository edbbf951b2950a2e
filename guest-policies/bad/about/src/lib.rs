//! What bad guests say of themselves where that is not what is bad about them.

/// Implements the contract's interface `about` for `$guest`, with the bindings of the crate this is written in: name and
/// summary are those of its package, it wants `$inputs` (nothing where none are given), and takes any settings.
#[macro_export]
macro_rules! about {
    ($guest:ident) => {
        $crate::about!($guest, Inputs::empty());
    };
    ($guest:ident, $inputs:expr) => {
        const _: () = {
            use exports::weir::policy::about::{Guest, Info, Inputs, Problem};

            impl Guest for $guest {
                fn describe() -> Info {
                    Info {
                        name: env!("CARGO_PKG_NAME").to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                        summary: env!("CARGO_PKG_DESCRIPTION").to_owned(),
                        licence: env!("CARGO_PKG_LICENSE").to_owned(),
                        inputs: $inputs,
                    }
                }

                fn check(_settings: String) -> Vec<Problem> {
                    Vec::new()
                }
            }
        };
    };
}
