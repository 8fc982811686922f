// One task in a line: what it does, how far it is, and how it ended. Where cells or gaps are
// collected from the page, it says what came of it.

import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import { get } from "./api.js";
import { useTopic } from "./live.js";
import { hasEnded, newer } from "./task_age.js";
import { Bar, ErrorBox, link, Pill } from "./ui.js";

/** `onEnd(task)` is called once, when it has ended. */
export function TaskLine({ id, onEnd }) {
  const [task, setTask] = useState(null);
  const [problem, setProblem] = useState(null);
  const ended = task !== null && hasEnded(task);
  const latest = useRef(onEnd);
  latest.current = onEnd;
  const take = (found) => {
    setTask((old) => newer(old, found));
    setProblem(null);
  };
  const read = () => get(`/task/${id}`).then(take, setProblem);
  useEffect(() => {
    read();
  }, [id]);
  // A task that has ended says nothing new, and cannot be asked for once it has expired.
  useTopic(ended ? null : `task:${id}`, (message) => message.task && take(message.task), read);
  useEffect(() => {
    if (ended) latest.current?.(task);
  }, [ended]);
  return html`<div class="task-line" data-task=${id} data-status=${task?.status}>
    <${ErrorBox} problem=${problem} retry=${read} />
    ${task &&
    html`<${Pill} state=${task.status} />
      <${Bar} value=${task.progress} label="Progress" tone=${task.status === "failed" ? "bad" : ended ? "good" : "busy"} />
      <span role="status">${task.message}</span> <a href=${link("tasks", id)}>Task</a>`}
  </div>`;
}
