//! Where a client's session gets its name and its secret from.

use crate::error::{Error, ErrorKind, Result};
use crate::proto::session::{Identity, Session};

/// A session that nobody else has, with a secret that nobody can guess.
///
/// # Errors
/// `Internal` where the operating system gives no random bytes.
pub(crate) fn identity() -> Result<Identity> {
    let mut identity = Identity { session: [0; 16], secret: [0; 16] };
    getrandom::fill(&mut identity.session)
        .and_then(|()| getrandom::fill(&mut identity.secret))
        .map_err(|error| Error::new(ErrorKind::Internal, format!("no random bytes: {error}")))?;
    Ok(identity)
}

/// Gives a session that a broker has denied an identity of its own again. Where there is none it keeps the old one, and is
/// denied again.
pub(crate) fn renew(session: &mut Session) {
    match identity() {
        Ok(identity) => session.set_identity(identity),
        Err(error) => log::error!("{error}"),
    }
}
