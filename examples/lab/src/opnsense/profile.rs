//! The releases of OPNsense this stand-in can be, and what differs between them.

/// A release. Community editions by their number; [`Profile::Business26_4`] is the business edition built from 26.1.
///
/// The order is the order of the code behind them, so `profile >= Profile::V25_7` reads as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// 24.1.10: routed by Phalcon, no `diagnostics/system/system_*`.
    V24_1,
    /// 24.7.12: the vendor's own router, camelCase privileges, flat system status.
    V24_7,
    /// 25.1.12: the system status with metadata.
    V25_1,
    /// 25.7.11: snake_case privileges.
    V25_7,
    /// 26.1.11.
    V26_1,
    /// Business edition 26.4 (26.1 with a licence).
    Business26_4,
    /// 26.7.2.
    V26_7,
}

impl Profile {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V24_1, Self::V24_7, Self::V25_1, Self::V25_7, Self::V26_1, Self::Business26_4, Self::V26_7];

    /// The version as the appliance writes it.
    pub fn version(self) -> &'static str {
        match self {
            Self::V24_1 => "24.1.10_8",
            Self::V24_7 => "24.7.12_4",
            Self::V25_1 => "25.1.12",
            Self::V25_7 => "25.7.11_2",
            Self::V26_1 => "26.1.11",
            Self::Business26_4 => "26.4",
            Self::V26_7 => "26.7.2",
        }
    }

    /// The release series, `26.7`.
    pub fn series(self) -> &'static str {
        match self {
            Self::V24_1 => "24.1",
            Self::V24_7 => "24.7",
            Self::V25_1 => "25.1",
            Self::V25_7 => "25.7",
            Self::V26_1 => "26.1",
            Self::Business26_4 => "26.4",
            Self::V26_7 => "26.7",
        }
    }

    /// What `uname` says.
    pub(super) fn kernel(self) -> &'static str {
        match self {
            Self::V24_1 => "FreeBSD 13.2-RELEASE-p11",
            Self::V24_7 => "FreeBSD 14.1-RELEASE-p6",
            Self::V25_1 => "FreeBSD 14.2-RELEASE-p4",
            Self::V25_7 | Self::V26_1 | Self::Business26_4 => "FreeBSD 14.3-RELEASE-p4",
            Self::V26_7 => "FreeBSD 15.1-RELEASE-p1",
        }
    }

    /// Whether it is the business edition.
    pub(super) fn business(self) -> bool {
        self == Self::Business26_4
    }

    /// Phalcon's router, which answers 400 where later ones answer 404.
    pub(super) fn phalcon(self) -> bool {
        self == Self::V24_1
    }
}
