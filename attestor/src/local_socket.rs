//! Unix sockets that local software connects to.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::Path;

use tokio::net::UnixListener;

/// Binds the socket `path` for whom `mode` and `group` let in. One that a former run left behind is replaced.
pub(crate) fn bind(path: &Path, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
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
