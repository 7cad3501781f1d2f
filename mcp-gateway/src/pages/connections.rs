//! The owner's page: which apps are connected, and a button that ends each connection.

use hyper::StatusCode;
use shared::Level;

use super::{Text, in_words, page, password_field};
use crate::body::Reply;

/// One connection.
pub(crate) struct Row<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    /// Where it was returned to when it was made.
    pub(crate) host: &'a str,
    pub(crate) level: Level,
    /// Seconds since it was made.
    pub(crate) age: u64,
    /// Seconds since it was used last.
    pub(crate) idle: u64,
}

/// Asks for the password. `notice` says why, where that is not plain.
pub(crate) fn sign_in(status: StatusCode, notice: Option<&str>, error: Option<&str>) -> Reply {
    let notice = notice.map_or_else(String::new, |notice| format!("<p role=\"status\">{}</p>\n", Text(notice)));
    let password = password_field(error);
    let main = format!(
        "<h1>Connections</h1>\n{notice}<p>Sign in to see which apps may use your homelab, and to end any of them.</p>\n\
         <form method=\"post\" action=\"/connections\">\n{password}\
         <div class=\"buttons\"><button name=\"action\" value=\"sign-in\">Sign in</button></div>\n</form>\n"
    );
    let error = if error.is_some() { "Error: " } else { "" };
    page(status, &format!("{error}Connections: sign in"), &main, &[])
}

/// The list. `token` ties its forms to the owner's session.
pub(crate) fn list(status: StatusCode, rows: &[Row<'_>], token: &str, notice: Option<&str>) -> Reply {
    let token = Text(token);
    let mut main = "<h1>Connections</h1>\n".to_owned();
    if let Some(notice) = notice {
        main += &format!("<p class=\"notice\" role=\"status\">{}</p>\n", Text(notice));
    }
    if rows.is_empty() {
        main += "<p>No app is connected. A connection appears here when you have allowed it.</p>\n";
    } else {
        main += "<ul class=\"rows\">\n";
        for row in rows {
            let (id, name, host) = (Text(row.id), Text(row.name), Text(row.host));
            let (level, about) = in_words(row.level);
            let (made, used) = (ago(row.age), ago(row.idle));
            main += &format!(
                "<li>\n<h2 id=\"c-{id}\"><bdi>{name}</bdi></h2>\n<p>{host} · <span title=\"{about}\">{level}</span></p>\n\
                 <p class=\"hint\">First used {made}, last used {used}</p>\n\
                 <form method=\"post\" action=\"/connections\">\n<input type=\"hidden\" name=\"token\" value=\"{token}\">\n\
                 <input type=\"hidden\" name=\"id\" value=\"{id}\">\n\
                 <button class=\"quiet\" id=\"end-{id}\" name=\"action\" value=\"end\" aria-labelledby=\"end-{id} c-{id}\">End</button>\n\
                 </form>\n</li>\n"
            );
        }
        main += "</ul>\n<p class=\"hint\">Ending a connection takes effect at once. The app must be allowed again before it can come back.</p>\n";
    }
    main += &format!(
        "<form method=\"post\" action=\"/connections\">\n<input type=\"hidden\" name=\"token\" value=\"{token}\">\n\
         <div class=\"buttons\"><button class=\"quiet\" name=\"action\" value=\"sign-out\">Sign out</button></div>\n</form>\n"
    );
    page(status, "Connections", &main, &[])
}

/// A time in the past as people say it.
fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_words() {
        for (seconds, words) in [
            (0, "just now"),
            (60, "1 minute ago"),
            (7199, "1 hour ago"),
            (7200, "2 hours ago"),
            (86_400 * 30, "30 days ago"),
        ] {
            assert_eq!(ago(seconds), words);
        }
    }
}
