//! Makes one table of several files, and puts the environment's words into it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problems;
use super::source::Source;

/// Adds an included table to what is there. Lists of tables become longer; any other key stands in one file alone.
pub(super) fn merge<'a>(
    source: &Source,
    all: &mut DeTable<'a>,
    included: DeTable<'a>,
    problems: &mut Problems,
) {
    for (key, value) in included {
        if key.get_ref() == "include" {
            problems.error(key.span(), "a file that is included includes no others");
            continue;
        }
        let span = key.span();
        match (all.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut), value.into_inner()) {
            (Some(DeValue::Array(list)), DeValue::Array(more)) => {
                more.into_iter().for_each(|one| list.push(one));
            }
            (None, value) => drop(all.insert(key, Spanned::new(span, value))),
            (Some(_), _) => {
                let name = key.get_ref().clone();
                let earlier = all.keys().find(|one| *one.get_ref() == name);
                let line = earlier.map(|one| source.line(one.span().start));
                let line = line.map_or_else(String::new, |line| line.full(source));
                problems.error(
                    span,
                    format!("\"{name}\" stands on {line} already: a table stands in one file"),
                );
            }
        }
    }
}

/// What an environment says of a variable; `None` if it is not set.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Puts the environment's words in the place of `${NAME}` and `${NAME:-default}` in every string; `$${` is `${`.
pub(super) fn substitute(
    table: &mut DeTable<'_>,
    environment: &Environment<'_>,
    problems: &mut Problems,
) {
    for (_, value) in table.iter_mut() {
        substitute_one(value, environment, problems);
    }
}

fn substitute_one(
    value: &mut Spanned<DeValue<'_>>,
    environment: &Environment<'_>,
    problems: &mut Problems,
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains("${") => match replaced(text, environment) {
            Ok(new) => *text = new.into(),
            Err(text) if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                problems.error_with_help(
                    span,
                    format!("\"${{{text}\" names no variable"),
                    "write ${NAME} or ${NAME:-default}; $${ is a plain ${".to_owned(),
                );
            }
            Err(name) => problems.error_with_help(
                span,
                format!("the environment has no variable {name}"),
                format!("set it, or write ${{{name}:-…}} with what holds without it"),
            ),
        },
        DeValue::Array(items) => {
            items.iter_mut().for_each(|one| substitute_one(one, environment, problems));
        }
        DeValue::Table(table) => substitute(table, environment, problems),
        _ => {}
    }
}

/// A text with the environment's words in it.
///
/// # Errors
/// The name of a variable that is not set, or what stands there and is no name.
pub fn replaced(text: &str, environment: &Environment<'_>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("${") {
        let (before, found) = rest.split_at(at);
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = &found[2..];
            continue;
        }
        out.push_str(before);
        match reference(&found[2..]) {
            Some((name, default, after)) => {
                let word = environment(name).filter(|word| !word.is_empty() || default.is_none());
                let word = word.or_else(|| default.map(str::to_owned));
                out.push_str(&word.ok_or_else(|| name.to_owned())?);
                rest = after;
            }
            // An expression may have it before a number, or at its end: that means no variable.
            None if found[2..].starts_with(|one: char| one.is_ascii_alphabetic() || one == '_') => {
                return Err(match found[2..].split_once('}') {
                    Some((inner, _)) => inner.to_owned(),
                    None => format!("{} (no brace closes it)", &found[2..]),
                });
            }
            None => {
                out.push_str("${");
                rest = &found[2..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Name, default, and what stands behind; `None` if it is no reference: an expression may have `${` too.
fn reference(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let (inner, after) = text.split_once('}')?;
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then_some((name, default, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lower::lower_source;

    const MAIN: &str = "include = [\"x\"]\n[[listener]]\naddress = \"127.0.0.1:${PORT:-8080}\"\n[[route]]\ncluster = \"app\"\n";

    fn environment(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/a".to_owned())
    }

    #[test]
    fn the_environment_is_read() {
        for (text, wanted) in [
            ("a ${HOME} b", Ok("a /home/a b")),
            ("${HOME}${HOME:-x}", Ok("/home/a/home/a")),
            ("${NONE:-x}-${NONE:-}", Ok("x-")),
            ("$${HOME}", Ok("${HOME}")),
            ("~^/a${2}$", Ok("~^/a${2}$")),
            ("${", Ok("${")),
            ("${NONE}", Err("NONE")),
            ("${HOME-x}", Err("HOME-x")),
            ("${HOME", Err("HOME (no brace closes it)")),
        ] {
            let told = replaced(text, &environment);
            assert_eq!(told.as_deref().map_err(String::as_str), wanted, "{text}");
        }
    }

    #[test]
    fn files_are_one_and_problems_name_their_own() {
        let mut source = Source::new("etc/main.toml", MAIN);
        source.add(
            "etc/conf.d/a.toml",
            "[[cluster]]\nname = \"app\"\n[[cluster.endpoint]]\naddress = \"10.0.0.1:80\"\n",
        );
        source.add("etc/conf.d/b.toml", "[[route]]\nhost = \"b\"\ncluster = \"app\"\n");
        let (config, problems) = lower_source(&source, &environment);
        let config = config.unwrap_or_else(|| panic!("{}", problems.render_all(&source)));
        assert_eq!((config.clusters.len(), config.routes.len()), (1, 2));
        assert_eq!(config.listeners[0].address.port(), 8080);
        assert_eq!(config.routes[1].line.to_string(), "line 1 of etc/conf.d/b.toml");
        source.add(
            "etc/conf.d/c.toml",
            "include = [\"y\"]\n[[route]]\nhots = \"b\"\ncluster = \"app\"\n[server]\n",
        );
        source.add("etc/conf.d/d.toml", "\n[server]\ncores = 1\n[x\n");
        source.add("etc/conf.d/e.toml", "[[cluster.endpoint]]\naddress = \"10.0.0.1:80\"\n");
        let (config, problems) = lower_source(&source, &environment);
        let told = problems.render_all(&source);
        assert!(config.is_none());
        for part in [
            "conf.d/c.toml:1:1",
            "includes no others",
            "c.toml:3:1",
            "3 | hots",
            "d.toml:2:2",
            "stands on line 5 of etc/conf.d/c.toml",
            "d.toml:4",
            "e.toml:1:3",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
