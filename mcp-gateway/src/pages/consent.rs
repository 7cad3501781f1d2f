//! The page that asks the owner whether an app may connect, and how much it may do.

use hyper::StatusCode;
use shared::Level;

use super::{Text, in_words, page, password_field};
use crate::{auth::RedirectUri, body::Reply};

/// What is known of an app's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust<'a> {
    /// The operator put it into the configuration.
    Configured,
    /// It is described by a document of this host.
    DescribedAt(&'a str),
    /// It says so itself.
    Claimed,
}

/// What the page shows.
pub(crate) struct Consent<'a> {
    pub(crate) name: &'a str,
    pub(crate) trust: Trust<'a>,
    pub(crate) redirect: &'a RedirectUri,
    /// What may be chosen at most.
    pub(crate) ceiling: Level,
    /// What the app asks for, if it does.
    pub(crate) wanted: Option<Level>,
    pub(crate) chosen: Level,
    /// The request, sealed.
    pub(crate) form: &'a str,
    /// What was wrong about the last try.
    pub(crate) error: Option<&'a str>,
}

impl Consent<'_> {
    /// The page.
    pub(crate) fn page(&self, status: StatusCode) -> Reply {
        let name = Text(self.name);
        let host = Text(self.redirect.authority());
        let trust = match self.trust {
            Trust::Configured => "<small>the client in this server’s configuration</small>".to_owned(),
            Trust::DescribedAt(host) => format!("<small>as described by {}</small>", Text(host)),
            Trust::Claimed => "<small>the app’s own words; nobody has checked them</small>".to_owned(),
        };
        let place = if self.redirect.is_loopback() {
            "<small>a program on the device that you are using now: go on only if you have just started it</small>"
        } else {
            "<small>go on only if that is where you come from</small>"
        };
        let levels: String =
            Level::ALL.into_iter().filter(|level| *level <= self.ceiling).map(|level| self.level(level)).collect();
        let password = password_field(self.error);
        let form = Text(self.form);
        let main = format!(
            "<h1>Let this app use your homelab?</h1>\n\
             <dl>\n<div><dt>App</dt><dd><b><bdi>{name}</bdi></b> {trust}</dd></div>\n\
             <div><dt>Returns to</dt><dd><b>{host}</b> {place}</dd></div>\n</dl>\n\
             <form method=\"post\" action=\"/authorize\">\n<input type=\"hidden\" name=\"form\" value=\"{form}\">\n\
             <fieldset>\n<legend>What may this connection do?</legend>\n{levels}</fieldset>\n{password}\
             <div class=\"buttons\">\n<button name=\"decision\" value=\"allow\">Allow</button>\n\
             <button class=\"quiet\" name=\"decision\" value=\"deny\" formnovalidate>Deny</button>\n</div>\n</form>\n\
             <p class=\"hint\">You can end a connection at any time on the <a href=\"/connections\">connections page</a>.</p>\n"
        );
        let error = if self.error.is_some() { "Error: " } else { "" };
        // Not with its name: that may be chosen to be read as something else.
        let title = format!("{error}Let this app use your homelab?");
        page(status, &title, &main, &[self.redirect.csp_source()])
    }

    fn level(&self, level: Level) -> String {
        let (name, about) = in_words(level);
        let number = level.number();
        let checked = if level == self.chosen { " checked" } else { "" };
        let badge = if self.wanted == Some(level) { " <span class=\"badge\">the app asks for this</span>" } else { "" };
        format!(
            "<div class=\"level\">\n<input type=\"radio\" name=\"level\" id=\"level-{number}\" value=\"{number}\" required{checked} \
             aria-describedby=\"about-{number}\">\n\
             <label for=\"level-{number}\"><b>{name}</b>{badge}</label>\n<p id=\"about-{number}\">{about}</p>\n</div>\n"
        )
    }
}
