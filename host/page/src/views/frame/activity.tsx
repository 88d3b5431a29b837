// Everything that the server has said since the page was opened, newest first.
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Dialog } from "../../components/dialog";
import { Icon } from "../../components/icon";
import { severityIcon } from "../../components/toasts";
import { markRead, notices } from "../../state/notices";
import { precise, toTheSecond } from "../../state/time";
import { activityShown } from "./overlays";

const List = (): JSX.Element => {
  const all = notices.value;
  useEffect(markRead, [all]);
  if (all.length === 0) return <p class="hint">Nothing yet. What happens to labs, nodes and shells is told here.</p>;
  return (
    <ol class="notices">
      {all.map((notice) => (
        <li key={notice.id} class={`notice severity-${notice.severity}`}>
          <Icon name={severityIcon[notice.severity]} />
          <div>
            <p>{notice.text}</p>
            {notice.detail && (
              <details>
                <summary>More</summary>
                <p>{notice.detail}</p>
              </details>
            )}
          </div>
          <time dateTime={notice.at.toISOString()} title={precise(notice.at)}>
            {toTheSecond(notice.at)}
          </time>
        </li>
      ))}
    </ol>
  );
};

export const Activity = (): JSX.Element | null => {
  if (!activityShown.value) return null;
  return (
    <Dialog title="Activity" side onClose={() => (activityShown.value = false)}>
      <List />
    </Dialog>
  );
};
