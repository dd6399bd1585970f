//! Unix sockets that local software connects to.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};

/// Binds the socket `path` for whom `mode` and `group` let in. One that a former run left behind is replaced, and none that
/// a program answers at.
pub(crate) async fn bind(path: &Path, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            left_behind(path).await?;
            std::fs::remove_file(path)?;
        }
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // The group first: a mode that is wider for it must not hold for another.
    if group.is_some() {
        chown(path, None, group)?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Whether nobody listens at a socket any more; that is known only of one that refuses whoever may connect.
async fn left_behind(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        // It answers, or has as many callers as it takes.
        Ok(_) | Err(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another program answers at this socket")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_taken_over_from_the_dead_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = bind(&path, 0o600, None).await.unwrap();
        let taken = bind(&path, 0o600, None).await.unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert_eq!(taken.to_string(), "another program answers at this socket");
        UnixStream::connect(&path).await.expect("its place was not taken");
        drop(first);
        let second = bind(&path, 0o666, None).await.unwrap();
        UnixStream::connect(&path).await.expect("it listens");
        drop(second);
    }

    #[tokio::test]
    async fn a_socket_with_as_many_callers_as_it_takes_is_answered_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let _busy = socket.listen(0).unwrap();
        let mut callers = Vec::new();
        let full = loop {
            match UnixStream::connect(&path).await {
                Ok(caller) => callers.push(caller),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock, "{full}");
        let taken = bind(&path, 0o600, None).await.unwrap_err();
        assert_eq!(taken.to_string(), "another program answers at this socket");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_socket_of_another_kind_stays_and_the_system_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _theirs = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let refused = bind(&path, 0o600, None).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::PROTOTYPE.raw_os_error()), "{refused}");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(bind(&path, 0o600, None).await.unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
