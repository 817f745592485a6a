// Shows the frame that the slider of its section stands at. Without scripts the last frame is shown.
for (const slider of document.querySelectorAll(".slider input")) {
  const section = slider.closest("figure");
  const frames = section.querySelectorAll(".frames img");
  const place = section.querySelector("output");
  slider.addEventListener("input", () => {
    frames.forEach((frame, i) => frame.classList.toggle("shown", i === Number(slider.value)));
    place.value = frames[slider.value].dataset.place;
    slider.setAttribute("aria-valuetext", place.value);
  });
}
