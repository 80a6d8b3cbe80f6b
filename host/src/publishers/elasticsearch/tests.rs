mod script;

pub(crate) use script::{Asked, Kept, Reply, Script, item, items_reply};
