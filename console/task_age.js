// Which of two views of a task is the newer one: a snapshot may be ahead of the updates that follow it.

export const hasEnded = ({ status }) => ["completed", "failed", "cancelled"].includes(status);

const STEPS = ["pending", "running"];
const age = (task) => [task.attempt, hasEnded(task) ? 2 : STEPS.indexOf(task.status), task.progress];

/** What is known of a task after another view of it. */
export function newer(old, news) {
  if (!old) return news;
  const [before, after] = [age(old), age(news)];
  const at = before.findIndex((value, index) => value !== after[index]);
  return at >= 0 && before[at] > after[at] ? old : { ...old, ...news };
}
