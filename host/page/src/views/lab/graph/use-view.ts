// Which part of a drawing is seen, and how large: all of it at first, and what somebody makes of that.
import { useSignal } from "@preact/signals";
import type { RefObject } from "preact";
import { useEffect } from "preact/hooks";

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Small topologies aren't blown up beyond this. */
const LARGEST_FIT = 1.25;
const [LEAST, MOST] = [0.15, 3];

export interface View {
  box: Box;
  /** Pixels for each unit of the drawing. */
  scale: number;
  zoom: (factor: number) => void;
  fit: () => void;
  pan: (event: PointerEvent) => void;
}

export const useView = (stage: RefObject<HTMLElement>, frame: Box): View => {
  const area = useSignal({ width: 800, height: 600 });
  /** Null: all of it. */
  const own = useSignal<{ x: number; y: number; scale: number } | null>(null);
  const fitting = Math.min(area.value.width / frame.width, area.value.height / frame.height, LARGEST_FIT);
  const middle = { x: frame.x + frame.width / 2, y: frame.y + frame.height / 2 };
  const { x, y, scale } = own.value ?? { ...middle, scale: fitting };
  const width = area.value.width / scale;
  const height = area.value.height / scale;

  useEffect(() => {
    own.value = null;
  }, [frame]);

  useEffect(() => {
    const element = stage.current;
    if (!element) return;
    const measure = new ResizeObserver(([entry]) => {
      const { width, height } = entry?.contentRect ?? { width: 0, height: 0 };
      if (width > 0 && height > 0) area.value = { width, height };
    });
    measure.observe(element);
    return () => measure.disconnect();
  }, []);

  const clamp = (wanted: number): number => Math.min(MOST, Math.max(LEAST, wanted));
  const zoom = (factor: number, around = { x, y }): void => {
    const next = clamp(scale * factor);
    const kept = scale / next;
    own.value = { x: around.x + (x - around.x) * kept, y: around.y + (y - around.y) * kept, scale: next };
  };

  useEffect(() => {
    const element = stage.current;
    if (!element) return;
    // Not by an attribute: listeners for wheels are passive there, and the page would be zoomed as well.
    const wheel = (event: WheelEvent): void => {
      if (!(event.ctrlKey || event.metaKey) || (event.target as Element).closest(".inspector")) return;
      event.preventDefault();
      const at = element.getBoundingClientRect();
      const around = {
        x: x + (event.clientX - at.left - at.width / 2) / scale,
        y: y + (event.clientY - at.top - at.height / 2) / scale,
      };
      zoom(Math.exp(-event.deltaY / 300), around);
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  });

  const pan = (event: PointerEvent): void => {
    // Fingers scroll the page; there are buttons for them.
    if (event.button !== 0 || event.pointerType === "touch" || event.target !== event.currentTarget) return;
    const surface = event.currentTarget as Element;
    const from = { x: event.clientX, y: event.clientY };
    surface.setPointerCapture(event.pointerId);
    const move = (to: Event): void => {
      const { clientX, clientY } = to as PointerEvent;
      own.value = { x: x - (clientX - from.x) / scale, y: y - (clientY - from.y) / scale, scale };
    };
    surface.addEventListener("pointermove", move);
    surface.addEventListener("lostpointercapture", () => surface.removeEventListener("pointermove", move), { once: true });
  };

  return {
    box: { x: x - width / 2, y: y - height / 2, width, height },
    scale,
    zoom,
    fit: () => (own.value = null),
    pan,
  };
};
