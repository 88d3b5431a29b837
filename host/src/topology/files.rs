//! Files that lie beside a definition: which paths they can have, and which entries of `binds` mean them.
//!
//! A relative source of `binds` means something in the folder that the topology file is in, and there is nothing in that
//! folder but the files of the topology. So it isn't the host that a node reaches by it, provided that no node can put
//! something else there: a symbolic link to the host's files, which the next node to be started would follow. That is why a
//! folder counts only if it is mounted read-only, why nothing counts that containerlab itself puts there and lets nodes
//! write to, and why a bind of nothing is refused by whoever runs nodes rather than looked up.

/// Longest path of a file, in bytes.
const MAX_PATH: usize = 512;
/// Longest part of a path between slashes, in bytes: file systems allow little more.
const MAX_PART: usize = 200;
/// Most folders that a file can be in.
const MAX_DEPTH: usize = 16;
/// What containerlab replaces in paths begins like this.
const REPLACED: &str = "__clab";
/// Folders that containerlab makes beside the topology begin like this.
const OF_CONTAINERLAB: &str = "clab-";
/// Options of a bind that say nothing about what may be done with the file.
const HARMLESS: [&str; 4] = ["rw", "z", "Z", "consistent"];

/// An entry of `binds` that means a file beside the definition, or a folder of such files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBind {
    /// As it is written.
    pub entry: String,
    /// Path beside the definition, without `.` and slashes at its end.
    pub source: String,
    /// Path in the node.
    pub target: String,
    /// Whether the node may only read it.
    pub read_only: bool,
    /// An option besides `ro` and `rw`, such as `rshared`, that says how it is mounted.
    pub option: Option<String>,
    /// What is there.
    pub names: Named,
}

/// What a path beside a definition names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A file.
    File,
    /// A folder with at least one file in it.
    Folder,
    /// Nothing: there is no such file, or none yet. It can't be run like this.
    Nothing,
}

impl FileBind {
    /// What is wrong with it, if it names nothing; for whoever is about to run the node.
    pub fn problem(&self) -> Option<String> {
        (self.names == Named::Nothing).then(|| {
            format!(
                "binds ({}): there is no file or folder {} beside the topology: add it to the topology's files",
                self.entry, self.source
            )
        })
    }
}

/// Why a path can't be that of a file beside a definition; what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filePath: {0}")]
pub struct BadPath(pub String);

/// The path of a file beside a definition as it is kept: without `.`.
///
/// # Errors
/// [`BadPath`] when it leads elsewhere, or can't be a path.
pub fn file_path(path: &str) -> Result<String, BadPath> {
    let bad = |problem: String| Err(BadPath(problem));
    if path.is_empty() {
        return bad("it is empty; write a path such as config/r1.cfg".to_owned());
    }
    if path.len() > MAX_PATH {
        return bad(format!("it is {} bytes long; at most {MAX_PATH} are possible", path.len()));
    }
    let shown = super::shown(path);
    if path.chars().any(char::is_control) {
        return bad(format!("`{shown}` holds a control character"));
    }
    if path.starts_with(['/', '~']) || path.contains('\\') {
        return bad(format!("`{shown}` is not relative to the topology; write a path such as config/r1.cfg"));
    }
    if path.contains(REPLACED) || path.starts_with(OF_CONTAINERLAB) {
        return bad(format!(
            "`{shown}` is a path of containerlab's own: names with {REPLACED} and {OF_CONTAINERLAB}… are"
        ));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| *part != ".").collect();
    if parts.contains(&"..") {
        return bad(format!("`{shown}` leads out of the topology's folder; leave `..` out"));
    }
    if parts.is_empty() || parts.contains(&"") {
        return bad(format!("`{shown}` names a folder, or has two slashes in a row; name a file"));
    }
    if let Some(part) = parts.iter().find(|part| part.len() > MAX_PART) {
        return bad(format!("`{}` is {} bytes long; names have at most {MAX_PART}", super::shown(part), part.len()));
    }
    if parts.len() > MAX_DEPTH {
        return bad(format!("`{shown}` is {} folders deep; at most {MAX_DEPTH} are possible", parts.len()));
    }
    let path = parts.join("/");
    // Again, now that `./` is gone.
    if path.starts_with('~') || path.starts_with(OF_CONTAINERLAB) {
        return bad(format!("`{shown}` begins with a name that is not taken"));
    }
    Ok(path)
}

/// The entry of `binds`, if it means something beside the definition rather than of the host.
pub(super) fn entry(text: &str, files: &[String]) -> Option<FileBind> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return None,
    };
    let source = file_path(source.trim_end_matches('/')).ok()?;
    let options: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
    let read_only = options.contains(&"ro");
    let folder = format!("{source}/");
    let names = if files.contains(&source) {
        Named::File
    } else if files.iter().any(|file| file.starts_with(&folder)) {
        Named::Folder
    } else {
        Named::Nothing
    };
    if names == Named::Folder && !read_only {
        return None;
    }
    let option = options.into_iter().find(|option| *option != "ro" && !HARMLESS.contains(option));
    Some(FileBind {
        entry: text.to_owned(),
        source,
        target: target.to_owned(),
        read_only,
        option: option.map(str::to_owned),
        names,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_beside_the_topology() {
        for (path, kept) in
            [("r1.cfg", "r1.cfg"), ("./a/./b", "a/b"), ("a b/ü.cfg", "a b/ü.cfg"), ("..a/b..", "..a/b.."), (".x", ".x")]
        {
            assert_eq!(file_path(path).as_deref(), Ok(kept), "{path}");
        }
        let deep = "a/".repeat(16) + "b";
        let long = "a".repeat(201);
        let longest = "ab/".repeat(200);
        for path in [
            "",
            ".",
            "./",
            "/",
            "/etc/x",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            "~",
            "~/x",
            "./~x",
            "a\\b",
            "__clabDir__/x",
            "a/__clabNodeName__",
            "clab-x/y",
            "./clab-x",
            &deep,
            &long,
            &longest,
        ] {
            let said = file_path(path).expect_err(path).to_string();
            assert!(said.starts_with("filePath: ") && !said.contains(['\0', '\n']), "{said}");
        }
    }

    #[test]
    fn a_bind_means_a_file_beside_the_topology_or_the_host() {
        let files = ["r1.cfg".to_owned(), "conf/a".to_owned(), "conf/b/c".to_owned()];
        let named = |text: &str| entry(text, &files).map(|bind| bind.names);
        for file in ["r1.cfg:/x", "./r1.cfg:/x:ro", "conf/b/c:/x:rw", "conf/./a:/x:z"] {
            assert_eq!(named(file), Some(Named::File), "{file}");
        }
        for folder in ["conf:/x:ro", "conf/:/x:ro,z", "./conf/b:/x:ro"] {
            assert_eq!(named(folder), Some(Named::Folder), "{folder}");
        }
        assert_eq!(named("conf:/x"), None, "what nodes may put there could lead anywhere");
        for nothing in ["r2.cfg:/x", "r1.cfg/x:/x", "con:/x"] {
            assert_eq!(named(nothing), Some(Named::Nothing), "{nothing}");
        }
        for host in
            ["/r1.cfg:/x", "~/r1.cfg:/x", "conf/../r1.cfg:/x", ".:/x", "clab-y/r1:/x", "__clabDir__:/x", "/:/x:ro"]
        {
            assert_eq!(named(host), None, "{host}");
        }
        assert!(entry("conf:/x:ro", &files).unwrap().read_only);
        assert_eq!(entry("r1.cfg:/x:ro,rshared", &files).unwrap().option.as_deref(), Some("rshared"));
    }
}
