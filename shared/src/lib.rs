//! What `homelab-mcp` and `mcp-gateway` must agree on: capability levels, secrets, the environment, JSON-RPC
//! lines and the log. Knows neither rmcp nor hyper, so that either program can change its library alone.

pub mod jsonrpc;
pub mod level;
pub mod logging;
pub mod secret;
pub mod stop;
pub mod vars;

pub use level::Level;
pub use secret::Secret;
pub use stop::Stop;
