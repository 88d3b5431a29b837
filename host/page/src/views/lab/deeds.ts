// What is asked before it is done.
import { stateOf, type Lab } from "../../api/model";
import { confirmed } from "../../components/confirm";
import * as actions from "../../state/actions";

export const destroyAfterAsking = async (lab: Lab): Promise<void> => {
  const deploying = stateOf(lab, Date.now()) === "deploying";
  const yes = deploying
    ? await confirmed(`Cancel the deploy of ${lab.name}?`, "What has come up so far is taken down again.", "Cancel the deploy")
    : await confirmed(
        `Destroy ${lab.name}?`,
        "Its nodes and all that is in them go away, and open terminals end. The lab itself stays, and can be deployed again.",
        "Destroy",
      );
  if (yes) await actions.destroy(lab.id);
};

export const redeployAfterAsking = async (lab: Lab): Promise<void> => {
  const yes = await confirmed(
    `Deploy ${lab.name} anew?`,
    "Its nodes are taken down with all that is in them, and brought up afresh.",
    "Deploy anew",
  );
  if (yes) await actions.deploy(lab.id);
};

export const deleteAfterAsking = async (lab: Lab): Promise<boolean> => {
  const text = "It disappears from the list, with its logs. Its topology stays.";
  return (await confirmed(`Delete ${lab.name}?`, text, "Delete")) && actions.remove(lab.id);
};
