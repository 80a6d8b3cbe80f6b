//! `pressroom plugin reset`: an end to a quarantine.

use super::super::{Failure, block_on, report, to_stdout};
use reqwest::{Method, Url};

/// Have a running host ask a plugin again that is in quarantine
///
/// Has a running host forget what it holds against a plugin: instances that died, the wait for the next one, a quarantine.
/// The records that it has kept for the plugin are published at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pressroom plugin reset alerts
  pressroom plugin reset alerts --url http://10.0.0.7:4680 --token \"$TOKEN\"

Exit codes:
  0  it was reset
  1  the host could not be asked, or no plugin runs under that label")]
pub(super) struct Args {
    /// The publisher's label, or that of a failover with plugins in it
    label: String,
    /// Where the host listens: server.listen of its configuration
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4680", value_parser = report::address)]
    url: Url,
    /// The host's server.token, if it has one
    #[arg(long, env = "PRESSROOM_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

pub(super) fn reset(args: Args) -> Result<(), Failure> {
    let mut url = args.url;
    {
        let mut path = url.path_segments_mut().map_err(|()| Failure::wrong("write http://ADDRESS:PORT"))?;
        path.pop_if_empty().extend(["v1", "plugins", &args.label, "reset"]);
    }
    let ask = async { report::send(Method::POST, &url, args.token.as_deref()).await };
    block_on(async { ask.await.map(drop) })?;
    to_stdout(&format!("{} is asked again\n", args.label))?;
    Ok(())
}
