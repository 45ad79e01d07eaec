//! The command-line programs, as functions, so that the Python wheel and the npm package can offer them too.
//!
//! They have arguments, logging and exit statuses of their own; what a broker or a client does is the library's business.

mod bench;
mod conform;
mod mdbroker;
mod mdctl;
mod report;
mod signals;
mod table;

pub use mdbroker::mdbroker;
pub use mdctl::mdctl;
