//! A page that says one thing: what is the matter, and what to do.

use hyper::StatusCode;

use super::{Text, page};
use crate::body::Reply;

/// A heading, sentences, and perhaps a link that leads on.
pub(crate) fn message(status: StatusCode, heading: &str, sentences: &[&str], link: Option<(&str, &str)>) -> Reply {
    let mut main = format!("<h1>{}</h1>\n", Text(heading));
    for sentence in sentences {
        main += &format!("<p>{}</p>\n", Text(sentence));
    }
    if let Some((target, text)) = link {
        main +=
            &format!("<p><a class=\"button\" href=\"{}\" rel=\"noreferrer\">{}</a></p>\n", Text(target), Text(text));
    }
    page(status, heading, &main, &[])
}
