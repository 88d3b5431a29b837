// Colours of terminals. They are given to the terminal as values, since it draws by itself.
import type { ITheme } from "@xterm/xterm";

const dark: ITheme = {
  background: "#0b1014",
  foreground: "#dce5ec",
  cursor: "#7cc0ff",
  cursorAccent: "#0b1014",
  selectionBackground: "#2c4a66",
  black: "#25313a",
  red: "#ff7a70",
  green: "#4fd39a",
  yellow: "#f0b95a",
  blue: "#6ab4ff",
  magenta: "#c3a6ff",
  cyan: "#5fd0d6",
  white: "#c8d4dd",
  brightBlack: "#7d8f9d",
  brightRed: "#ff9a92",
  brightGreen: "#7fe3b8",
  brightYellow: "#ffd488",
  brightBlue: "#98cbff",
  brightMagenta: "#d8c4ff",
  brightCyan: "#8be3e7",
  brightWhite: "#f4f8fb",
};

const light: ITheme = {
  background: "#fbfcfd",
  foreground: "#1b2731",
  cursor: "#0b5fbd",
  cursorAccent: "#ffffff",
  selectionBackground: "#bcd8f5",
  black: "#1b2731",
  red: "#b4231c",
  green: "#0a6b42",
  yellow: "#7d5000",
  blue: "#0b5fbd",
  magenta: "#6a3fc9",
  cyan: "#0a6670",
  white: "#5b6c7a",
  brightBlack: "#5b6c7a",
  brightRed: "#c9352d",
  brightGreen: "#0d7f4f",
  brightYellow: "#8f5d00",
  brightBlue: "#1a73d6",
  brightMagenta: "#7c55d6",
  brightCyan: "#0d7883",
  brightWhite: "#33424f",
};

export const themeFor = (isLight: boolean): ITheme => (isLight ? light : dark);
