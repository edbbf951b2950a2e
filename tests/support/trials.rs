//! Trials of the suites that do without libtest's main(), because theirs enters a namespace first.

use libtest_mimic::{Failed, Trial};

/// A trial that fails when `test` panics.
#[must_use]
pub fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok::<(), Failed>(())
    })
}

/// Trials named after their functions, of `module::{function, …}` one after the other.
#[macro_export]
macro_rules! trials {
    ($($module:ident::{$($name:ident),* $(,)?})*) => {
        vec![$($($crate::trials::trial(concat!(stringify!($module), "::", stringify!($name)), $module::$name)),*),*]
    };
}
