// Small pictures, drawn with lines of one width on a grid of 20. They are never alone: a word or a label says the same.
import type { JSX } from "preact";

const paths = {
  play: "M6.5 4.2v11.6l9-5.8z",
  stop: "M5 5h10v10H5z",
  restart: "M15.5 10a5.5 5.5 0 1 1-1.7-4M15.5 3v3.4h-3.4",
  terminal: "M3 4.5h14v11H3zM6 8l2.2 2L6 12M10.5 12.2H14",
  log: "M4 5h12M4 8.4h8M4 11.7h12M4 15h6",
  nodes: "M5 5.5h4v3.6H5zM11.5 11h4v3.6h-4zM7 9.1v3.7h4.5",
  file: "M5.5 3h6l3 3.2V17h-9zM11.3 3.2v3.2h3",
  chart: "M3.5 16.500h13M5.500 13.500v-3M9 13.500v-7M12.500 13.500v-5M16 13.500v-9.500",
  capture: "M3 10h3.200M13.800 10H17M10 13.800a3.800 3.800 0 1 0 0-7.600 3.800 3.800 0 0 0 0 7.600zM10 9.900v.200",
  save: "M4 3.800h9.500L16.200 6.500V16.200H4zM7 3.800V8h5.500V3.800M7 16V11.500h6V16",
  trash: "M4.5 6h11M8 6V4h4v2M6 6l.7 10.5h6.6L14 6M8.7 9v4.6M11.3 9v4.6",
  plus: "M10 4.5v11M4.5 10h11",
  minus: "M4.5 10h11",
  search: "M9 14.2A5.2 5.2 0 1 0 9 3.8a5.2 5.2 0 0 0 0 10.4zM12.8 12.8 16.5 16.5",
  bell: "M5 13.5V9a5 5 0 0 1 10 0v4.5l1.2 1.3H3.8zM8.5 17h3",
  sun: "M10 13.2a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4zM10 2.8v1.6M10 15.6v1.6M2.8 10h1.6M15.6 10h1.6M4.9 4.9 6 6M14 14l1.1 1.1M15.1 4.9 14 6M6 14l-1.1 1.1",
  moon: "M15.8 12.2A6.4 6.4 0 0 1 7.8 4.2a6.4 6.4 0 1 0 8 8z",
  screen: "M3 4.5h14v8.6H3zM7.5 16.2h5M10 13.2v3",
  help: "M7.4 7.6a2.6 2.6 0 1 1 3.7 2.4c-.8.4-1.1.9-1.1 1.8M10 14.4v.2",
  close: "M5.5 5.5l9 9M14.5 5.5l-9 9",
  check: "M4.5 10.5l3.6 3.6 7.4-8",
  warning: "M10 3.6 17 16H3zM10 8.4v3.4M10 13.9v.1",
  clock: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM10 6v4.2l2.8 1.8",
  back: "M12 4.5 6.5 10l5.5 5.5",
  down: "M5 7.5 10 12.5 15 7.5",
  download: "M10 3.5v9M6.4 9.2 10 12.8l3.6-3.6M4 16.3h12",
  pause: "M7 4.8v10.4M13 4.8v10.4",
  copy: "M7.5 7.5h8.3v8.8H7.5zM12.5 7.3V3.7H4.2v8.8h3.1",
  leave: "M8.5 4H4v12h4.5M8 10h8.5M13.4 6.8 16.6 10l-3.2 3.2",
  fit: "M4 7.5V4h3.5M12.5 4H16v3.5M16 12.5V16h-3.5M7.5 16H4v-3.5",
  plug: "M7 3.5v4M13 3.5v4M5 7.5h10v2.3a5 5 0 0 1-10 0zM10 14.8v2.7",
  offline: "M3.5 8.3a9.4 9.4 0 0 1 13 0M6.2 11.2a5.5 5.5 0 0 1 7.6 0M10 14.5v.1M4 16 16 4",
} as const;

export type IconName = keyof typeof paths;

export const Icon = ({ name, size = 16 }: { name: IconName; size?: number }): JSX.Element => (
  <svg class="icon" width={size} height={size} viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <path d={paths[name]} />
  </svg>
);

/** The sign of the page: two nodes, one link, and the layers of the element it is named after. */
export const Mark = ({ size = 24 }: { size?: number }): JSX.Element => (
  <svg class="mark" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true" focusable="false">
    <path class="mark-face" d="M12 1.8 20.8 6.9v10.2L12 22.2 3.2 17.1V6.9z" />
    <path class="mark-edge" d="M12 1.8 20.8 6.9 12 12 3.2 6.9zM12 12v10.2" />
    <circle class="mark-node" cx="12" cy="12" r="2.4" />
  </svg>
);
