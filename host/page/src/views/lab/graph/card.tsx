// A node of the drawing: its name and state on a card that can be chosen and moved.
import type { JSX } from "preact";
import { Glyph, wordFor } from "../../../components/state";
import * as shells from "../../../state/shells";
import { LONGEST } from "../../../topology/drawing";
import type { Point, Size } from "../../../topology/drawing";
import type { ShownNode } from "../members";
import { useScope } from "../scope";

/** Further than this, a press is a drag, in pixels. */
const DRAG = 4;

/** What a kind looks like, in a square of 20 around the origin. */
const KindIcon = ({ kind }: { kind: string }): JSX.Element => {
  if (kind === "linux" || kind === "") return <path d="M-8-6.500H8V6.500H-8zM-5-2.500-2.500 0-5 2.500M0 3H4.500" />;
  if (kind.includes("bridge")) return <path d="M-8.500-4H8.500V4H-8.500zM-5.500 0h2M-1 0H1M3.500 0h2" />;
  if (kind === "host") return <path d="M-8-6.500H8V3.500H-8zM-4 7H4M0 3.500V7" />;
  return (
    <>
      <circle r="8.500" />
      <path d="M-5-2H1M-1-4 1-2-1 0M5 2.500H-1M1 .500-1 2.500 1 4.500" />
    </>
  );
};

interface Props {
  node: ShownNode;
  at: Point;
  size: Size;
  /** Pixels for each unit of the drawing. */
  scale: number;
  /** The name and the shape of the state alone. */
  compact: boolean;
  chosen: boolean;
  tabIndex: number;
  onChoose: () => void;
  onMove: (to: Point) => void;
}

export const Card = ({ node, at, size, scale, compact, chosen, tabIndex, onChoose, onMove }: Props): JSX.Element => {
  const { lab, show } = useScope();
  const { width, height } = size;
  const press = (event: PointerEvent): void => {
    if (event.button !== 0) return;
    const card = event.currentTarget as SVGElement;
    const from = { x: event.clientX, y: event.clientY };
    let dragged = false;
    const move = (to: Event): void => {
      const { clientX, clientY, pointerType } = to as PointerEvent;
      const [dx, dy] = [clientX - from.x, clientY - from.y];
      if (pointerType === "touch" || (!dragged && Math.hypot(dx, dy) < DRAG)) return;
      dragged = true;
      onMove({ x: at.x + dx / scale, y: at.y + dy / scale });
    };
    const done = (): void => {
      card.removeEventListener("pointermove", move);
      card.removeEventListener("pointerup", done);
      card.removeEventListener("pointercancel", done);
      if (dragged) card.addEventListener("click", (click) => click.stopPropagation(), { capture: true, once: true });
    };
    card.setPointerCapture(event.pointerId);
    card.addEventListener("pointermove", move);
    card.addEventListener("pointerup", done);
    card.addEventListener("pointercancel", done);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Enter" || event.key === " ") onChoose();
    else if (event.key === "t" && node.state === "running") {
      show("terminals");
      void shells.open(lab.id, node.name);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const name = node.name.length > LONGEST ? `${node.name.slice(0, LONGEST - 1)}…` : node.name;
  return (
    <g
      class={`card state-${node.state}${chosen ? " card-chosen" : ""}`}
      transform={`translate(${at.x} ${at.y})`}
      role="button"
      // In lower case: names of attributes of SVG are taken as they are written.
      tabindex={tabIndex}
      aria-pressed={chosen}
      aria-label={`${node.name} ${wordFor(node.state)}, ${node.kind || "node"}`}
      data-node={node.name}
      data-state={node.state}
      onClick={onChoose}
      onPointerDown={press}
      onKeyDown={onKeyDown}
    >
      {/* Said by the label already. */}
      <g aria-hidden="true">
        <title>{[node.name, node.kind, node.image].filter(Boolean).join("\n")}</title>
        <rect class="card-focus" x={-width / 2 - 5} y={-height / 2 - 5} width={width + 10} height={height + 10} rx="13" />
        <rect class="card-face" x={-width / 2} y={-height / 2} width={width} height={height} rx="9" />
        {!compact && <path class="card-edge" d={`M${-width / 2 + 1.5} ${-height / 2 + 9}v${height - 18}`} />}
        {compact ? (
          <>
            <g class="glyph" transform={`translate(${-width / 2 + 18} 0)`}>
              <Glyph state={node.state} />
            </g>
            <text class="card-name" x={-width / 2 + 30} y="5">
              {name}
            </text>
          </>
        ) : (
          <>
            <g class="card-kind" transform={`translate(${-width / 2 + 27} 0)`}>
              <KindIcon kind={node.kind} />
            </g>
            <text class="card-name" x={-width / 2 + 47} y="-3">
              {name}
            </text>
            {/* Two words, also for whoever compares them with the label. */ " "}
            <g class="glyph" transform={`translate(${-width / 2 + 53} 13)`}>
              <Glyph state={node.state} />
            </g>
            <text class="card-state" x={-width / 2 + 64} y="17">
              {wordFor(node.state)}
            </text>
          </>
        )}
      </g>
    </g>
  );
};
