//! The folder of a file, by its path alone.

use std::path::Path;

/// Returns the folder that a path to a file leads to; `.` for a bare name.
pub fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_lies_in_the_current_folder() {
        let of = |path: &'static str| folder_of(Path::new(path)).to_str();
        assert_eq!((of("a.db"), of("b/a.db"), of("/a.db")), (Some("."), Some("b"), Some("/")));
    }
}
