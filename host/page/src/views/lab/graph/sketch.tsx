// A topology in the size of a stamp, for lists.
import type { JSX } from "preact";
import type { Lab, NodeState } from "../../../api/model";
import { useDrawing } from "../../../state/drawings";

const [WIDTH, HEIGHT, MARGIN] = [72, 44, 6];

export const Sketch = ({ lab }: { lab: Lab }): JSX.Element => {
  const drawing = useDrawing(lab.definition).value;
  const states = new Map<string, NodeState>(lab.nodes.map((node) => [node.name, node.state]));
  const points = drawing ? [...drawing.points] : [];
  const xs = points.map(([, { x }]) => x);
  const ys = points.map(([, { y }]) => y);
  const [left, top] = [Math.min(...xs), Math.min(...ys)];
  const [wide, high] = [Math.max(...xs) - left, Math.max(...ys) - top];
  const scale = Math.min((WIDTH - 2 * MARGIN) / (wide || 1), (HEIGHT - 2 * MARGIN) / (high || 1), 0.16);
  const place = (name: string): [number, number] => {
    const { x, y } = drawing?.points.get(name) ?? { x: 0, y: 0 };
    return [WIDTH / 2 + (x - left - wide / 2) * scale, HEIGHT / 2 + (y - top - high / 2) * scale];
  };
  const radius = points.length > 24 ? 1.8 : points.length > 9 ? 2.6 : 3.4;
  return (
    <svg class="sketch" width={WIDTH} height={HEIGHT} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
      {drawing?.graph.links.map(({ a, b }, index) => {
        if (!b) return null;
        const [[x1, y1], [x2, y2]] = [place(a.node), place(b.node)];
        return <line key={index} x1={x1} y1={y1} x2={x2} y2={y2} />;
      })}
      {points.map(([name]) => {
        const [cx, cy] = place(name);
        return <circle key={name} class={`state-${states.get(name) ?? "inactive"}`} cx={cx} cy={cy} r={radius} />;
      })}
    </svg>
  );
};
