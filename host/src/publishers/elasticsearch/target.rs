//! Where records go: the names of indices and data streams.

use super::settings::ElasticsearchConfig;
use crate::record::{Kind, Timestamp};
use std::fmt::Write as _;

/// The indices of one publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An index per kind and day, named with this prefix.
    Daily { prefix: String },
    /// A data stream per kind, within this namespace.
    Stream { namespace: String },
}

/// Nanoseconds of a day.
const DAY: u64 = 86_400_000_000_000;

impl Target {
    pub(super) fn new(config: &ElasticsearchConfig) -> Self {
        if config.data_stream {
            Self::Stream { namespace: config.namespace().to_owned() }
        } else {
            Self::Daily { prefix: config.prefix().to_owned() }
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// The part of an index that a record of this time belongs to: the same number, the same index.
    pub(super) fn part(&self, time: Timestamp) -> u64 {
        match self {
            Self::Daily { .. } => time.day(),
            Self::Stream { .. } => 0,
        }
    }

    /// The part that a record of now belongs to.
    pub(super) fn today(&self) -> u64 {
        self.part(Timestamp::now())
    }

    /// The index, or data stream, of a kind and a part.
    pub(super) fn index(&self, kind: Kind, part: u64) -> String {
        match self {
            Self::Daily { prefix } => {
                let date = Timestamp::from_nanos(part.saturating_mul(DAY)).to_string();
                let mut name = format!("{prefix}-{}-", kind.as_str());
                // 2026-11-23T…
                let date = date.split('T').next().unwrap_or_default().split('-');
                for (at, digits) in date.enumerate() {
                    let _ = write!(name, "{}{digits}", if at == 0 { "" } else { "." });
                }
                name
            }
            Self::Stream { .. } => format!("{}-default", self.stem(kind)),
        }
    }

    /// The template of a kind, by name.
    pub(super) fn template(&self, kind: Kind) -> String {
        self.stem(kind)
    }

    /// The indices that the template of a kind is for.
    pub(super) fn pattern(&self, kind: Kind) -> String {
        format!("{}-*", self.stem(kind))
    }

    fn stem(&self, kind: Kind) -> String {
        match self {
            Self::Daily { prefix } => format!("{prefix}-{}", kind.as_str()),
            Self::Stream { namespace } => {
                let set = match kind {
                    Kind::Event => "execution",
                    Kind::Network => "network",
                };
                format!("logs-{namespace}.{set}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn daily() -> Target {
        Target::Daily { prefix: "pressroom".to_owned() }
    }

    #[test]
    fn indices_are_named_by_kind_and_day() {
        let time: Timestamp = "2026-11-23T23:59:59.999999999Z".parse().unwrap();
        let (target, part) = (daily(), daily().part(time));
        assert_eq!(target.index(Kind::Event, part), "pressroom-event-2026.11.23");
        assert_eq!(target.index(Kind::Network, part + 1), "pressroom-network-2026.11.24");
        assert_eq!(target.index(Kind::Event, 0), "pressroom-event-1970.01.01");
        assert_eq!(target.pattern(Kind::Event), "pressroom-event-*");
    }

    #[test]
    fn data_streams_are_named_by_kind_alone() {
        let target = Target::Stream { namespace: "shop".to_owned() };
        let part = target.part(Timestamp::now());
        assert_eq!(target.index(Kind::Event, part), "logs-shop.execution-default");
        assert_eq!(target.index(Kind::Network, part), "logs-shop.network-default");
        assert_eq!(target.template(Kind::Network), "logs-shop.network");
        assert_eq!(target.pattern(Kind::Network), "logs-shop.network-*");
    }

    proptest! {
        #[test]
        fn a_record_is_in_the_index_of_its_own_day(nanos in any::<u64>()) {
            let time = Timestamp::from_nanos(nanos);
            let text = time.to_string();
            let index = daily().index(Kind::Event, daily().part(time));
            prop_assert_eq!(index, format!("pressroom-event-{}", text[..10].replace('-', ".")));
        }
    }
}
