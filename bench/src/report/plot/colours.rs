//! Colours that also differ for those who do not tell red from green (after Okabe and Ito), each
//! with one for a dark page. Plots are drawn in the light ones; the page's style turns them into
//! the others.

use plotters::style::RGBColor;

/// A colour on a light page and on a dark one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) struct Colour {
    light: u32,
    dark: u32,
}

/// Text and axes.
pub(super) const INK: Colour = Colour {
    light: 0x33_33_33,
    dark: 0xDD_DD_DD,
};
/// The lines behind everything.
pub(super) const GRID: Colour = Colour {
    light: 0xE2_E2_E2,
    dark: 0x38_3B_40,
};
/// What is there for orientation.
pub(super) const GREY: Colour = Colour {
    light: 0x8A_8A_8A,
    dark: 0x90_90_90,
};

/// What is measured, by number.
const SERIES: [Colour; 8] = [
    Colour {
        light: 0x00_72_B2,
        dark: 0x4F_A8_DE,
    },
    Colour {
        light: 0xD5_5E_00,
        dark: 0xF0_84_3A,
    },
    Colour {
        light: 0x00_9E_73,
        dark: 0x2F_BF_95,
    },
    Colour {
        light: 0xCC_79_A7,
        dark: 0xDD_94_BC,
    },
    Colour {
        light: 0xE6_9F_00,
        dark: 0xF0_B7_36,
    },
    Colour {
        light: 0x56_B4_E9,
        dark: 0x8A_CC_F2,
    },
    Colour {
        light: 0x6A_3D_9A,
        dark: 0xA5_80_CC,
    },
    Colour {
        light: 0x8C_6D_31,
        dark: 0xB8_98_58,
    },
];

/// The colour of the series of this number; they begin again after the last.
pub(super) fn series(number: usize) -> Colour {
    SERIES[number % SERIES.len()]
}

impl Colour {
    /// For plotters.
    pub(super) fn rgb(self) -> RGBColor {
        let [_, red, green, blue] = self.light.to_be_bytes();
        RGBColor(red, green, blue)
    }

    /// As it stands in a plot.
    pub(in crate::report) fn light(self) -> String {
        format!("#{:06X}", self.light)
    }

    /// As it should be on a dark page.
    fn dark(self) -> String {
        format!("#{:06X}", self.dark)
    }
}

/// Style rules that turn each colour of plots and legends into its dark one, for selectors that
/// begin with `within`.
pub(in crate::report) fn dark_rules(within: &str) -> String {
    let mut rules = String::new();
    for colour in SERIES.into_iter().chain([INK, GRID, GREY]) {
        let (light, dark) = (colour.light(), colour.dark());
        for property in ["stroke", "fill"] {
            rules.push_str(&format!(
                "{within} [{property}=\"{light}\"]{{{property}:{dark}}}\n"
            ));
        }
    }
    rules
}
