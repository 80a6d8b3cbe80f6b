//! The settings of this publisher, from its `config` table. Outside of a host there are none.

use crate::bindings::pressroom::publisher::config as wit;
use std::fmt::Display;
use std::str::FromStr;

/// One setting, as text; nested keys are joined by dots. `None` if it is not set.
pub fn get(key: &str) -> Option<String> {
    if cfg!(target_arch = "wasm32") { wit::get(key) } else { None }
}

/// Every setting, as one JSON object.
pub fn get_all() -> String {
    if cfg!(target_arch = "wasm32") { wit::get_all() } else { "{}".to_owned() }
}

/// One setting, parsed; `default` if it is not set.
///
/// # Errors
///
/// It is set to something that does not parse; the text names the key and shows the value.
///
/// ```
/// let reset: bool = pressroom_plugin::config::parse("reset", true)?;
/// # Ok::<(), String>(())
/// ```
pub fn parse<T: FromStr<Err: Display>>(key: &str, default: T) -> Result<T, String> {
    match get(key) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|error| format!("config: \"{key}\" is \"{text}\": {error}")),
    }
}

/// Every setting, in a struct of the author's own. `#[serde(deny_unknown_fields)]` tells operators of a mistyped key.
///
/// # Errors
///
/// The settings do not fit the struct; the text says where.
#[cfg(feature = "serde")]
pub fn load<T: serde::de::DeserializeOwned>() -> Result<T, String> {
    serde_json::from_str(&get_all()).map_err(|error| format!("config: {error}"))
}
