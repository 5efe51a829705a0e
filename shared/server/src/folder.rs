//! Template files as people have them: in folders of folders, beside other files, copied, and sometimes unreadable.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use tasker_domain::template::{self, Template};
use tasker_wire::{Fault, Faults, limits};

/// A template file, checked by itself and beside the others.
#[derive(Debug)]
pub struct TemplateFile {
    pub path: PathBuf,
    /// Empty if the file cannot be read.
    pub text: String,
    /// Why it is not registered, whatever it contains: it cannot be read, or another file has the same identity.
    pub refusal: Option<String>,
    /// The template with notes, or the faults of the content.
    pub parsed: Result<(Template, Vec<Fault>), Faults>,
}

/// The template files of these files and folders, sorted by path in each folder and its folders. A file that is reached twice, by
/// a link, is taken once. An error of one file or inner folder refuses that one only.
pub fn template_files(paths: &[PathBuf]) -> Vec<TemplateFile> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for path in paths {
        if path.is_dir() {
            search(path, &mut seen, &mut found);
        } else {
            found.push(TemplateFile::read(path));
        }
    }
    refuse_namesakes(&mut found);
    found
}

/// Searches a folder and its folders. Hidden ones belong to other programs, such as `.git`, and are left out.
fn search(dir: &Path, seen: &mut HashSet<PathBuf>, found: &mut Vec<TemplateFile>) {
    if !seen.insert(real(dir)) {
        return;
    }
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> = match entries {
        Ok(entries) => entries.into_iter().map(|entry| entry.path()).filter(|path| !is_hidden(path)).collect(),
        Err(error) => return found.push(TemplateFile::refused(dir, format!("the folder cannot be read: {error}"))),
    };
    paths.sort();
    for path in paths {
        let is_template = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if path.is_dir() {
            search(&path, seen, found);
        } else if is_template && seen.insert(real(&path)) {
            found.push(TemplateFile::read(&path));
        }
    }
}

/// The path without links. A dangling link has none; it is told when it is read.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

impl TemplateFile {
    fn read(path: &Path) -> Self {
        match read(path) {
            Ok(text) => Self { path: path.to_owned(), refusal: None, parsed: template::parse(&text), text },
            Err(why) => Self::refused(path, why),
        }
    }

    fn refused(path: &Path, why: String) -> Self {
        Self { path: path.to_owned(), text: String::new(), refusal: Some(why), parsed: Err(Faults(Vec::new())) }
    }
}

/// The text of a template file, or why it cannot be read. A pipe would never end.
fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("cannot be read: it is no file".into());
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(cannot)?.take(limits::TEMPLATE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > limits::TEMPLATE_BYTES {
        return Err(format!("has more than {} bytes, which is the limit", limits::TEMPLATE_BYTES));
    }
    String::from_utf8(bytes).map_err(|error| format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// Refuses all files of one identity: which of them is meant is not known, and each would replace the other at every start.
fn refuse_namesakes(files: &mut [TemplateFile]) {
    let mut namesakes: BTreeMap<[String; 3], Vec<usize>> = BTreeMap::new();
    for (at, file) in files.iter().enumerate() {
        let Ok((template, _)) = &file.parsed else { continue };
        let identity = [template.namespace.clone(), template.name.clone(), template.version.to_string()];
        namesakes.entry(identity).or_default().push(at);
    }
    for ([namespace, name, version], same) in namesakes.into_iter().filter(|(_, same)| same.len() > 1) {
        for &at in &same {
            let others = same.iter().filter(|&&other| other != at).map(|&other| files[other].path.display().to_string());
            let others = others.collect::<Vec<_>>().join(" and ");
            files[at].refusal = Some(format!("{namespace}/{name} {version} is also in {others}; none of them is registered"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn template(name: &str) -> String {
        format!("{{name: {name}, version: 1.0.0, steps: [{{name: a, handler: {{callable: a}}}}]}}")
    }

    /// The files of a folder, each with its refusal.
    fn found(dir: &Path) -> Vec<(String, String)> {
        let shown = |file: TemplateFile| {
            let path = file.path.strip_prefix(dir).unwrap().display().to_string();
            (path, file.refusal.unwrap_or_default())
        };
        template_files(&[dir.to_owned()]).into_iter().map(shown).collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        found(dir)
            .into_iter()
            .map(|(path, refusal)| if refusal.is_empty() { path } else { panic!("{path}: {refusal}") })
            .collect()
    }

    #[test]
    fn folders_are_read_with_their_folders_in_a_stable_order() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("b/c")).unwrap();
        fs::create_dir_all(at(".git")).unwrap();
        fs::create_dir_all(at("empty")).unwrap();
        for name in ["b/c/two.yml", "z.yaml", "a.yaml", "b/one.yaml"] {
            fs::write(at(name), template(&format!("t{}", name.replace('/', "-")))).unwrap();
        }
        for name in [".git/x.yaml", ".hidden.yaml", "readme.md"] {
            fs::write(at(name), "junk").unwrap();
        }
        symlink(dir.path(), at("b/loop")).unwrap();
        symlink(at("a.yaml"), at("b/again.yaml")).unwrap();
        assert_eq!(names(dir.path()), ["a.yaml", "b/c/two.yml", "b/one.yaml", "z.yaml"]);
        assert_eq!(names(&at("empty")), [""; 0]);
    }

    #[test]
    fn files_of_one_identity_are_named_and_the_others_stay_good() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("old")).unwrap();
        fs::write(at("order.yaml"), template("order")).unwrap();
        fs::write(at("old/copy.yaml"), template("order").replace("callable: a", "callable: b")).unwrap();
        fs::write(at("other.yaml"), template("other")).unwrap();
        let found = found(dir.path());
        let [copy, order, other] = &found[..] else { panic!("{found:?}") };
        assert!(copy.1.contains("default/order 1.0.0 is also in") && copy.1.contains("order.yaml; none of them"), "{copy:?}");
        assert!(order.1.contains("old/copy.yaml; none of them is registered"), "{order:?}");
        assert_eq!(other.1, "");
    }

    #[test]
    fn an_unreadable_file_is_refused_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a.yaml"), b"name: caf\xe9").unwrap();
        symlink(at("nowhere"), at("b.yaml")).unwrap();
        fs::create_dir(at("c.yaml")).unwrap();
        fs::write(at("c.yaml/inner.yaml"), template("inner")).unwrap();
        nix::unistd::mkfifo(&at("d.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(at("e.yaml"), " ".repeat(limits::TEMPLATE_BYTES + 1)).unwrap();
        fs::write(at("f.yaml"), template("f")).unwrap();
        fs::set_permissions(at("f.yaml"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::write(at("g.yaml"), template("g")).unwrap();
        let found = found(dir.path());
        let expected = [
            ("a.yaml", "is not UTF-8 from byte 9 on"),
            ("b.yaml", "cannot be read: No such file"),
            ("c.yaml/inner.yaml", ""),
            ("d.yaml", "cannot be read: it is no file"),
            ("e.yaml", "has more than 4194304 bytes"),
            // The superuser may read everything.
            ("f.yaml", if nix::unistd::geteuid().is_root() { "" } else { "cannot be read: Permission denied" }),
            ("g.yaml", ""),
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((path, fault), (file, word)) in found.iter().zip(expected) {
            assert!(path == file && fault.starts_with(word) && fault.is_empty() == word.is_empty(), "{path}: {fault}");
        }
    }
}
